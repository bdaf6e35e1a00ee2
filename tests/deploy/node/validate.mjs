// Checks Kubernetes objects (YAML on standard input) offline: required members, types and enums by the schemas of
// kubernetes-models and of the Prometheus operator; unknown members by the types of the official client. Prints each fault;
// exits 1 when there is any, or when there is no object.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as yaml from 'js-yaml';

const require = createRequire(import.meta.url);
const official = await import(require.resolve('@kubernetes/client-node').replace(/dist\/.*$/, 'dist/gen/models/all.js'));
let faults = 0;

const fault = (object, text) => {
  faults++;
  console.log(`${object.kind}/${object.metadata?.name}: ${text}`);
};

// Core objects lie in v1/, others in GROUP/VERSION/; those of the operator in a package of their own.
async function model(object) {
  const [group, version] = object.apiVersion.includes('/') ? object.apiVersion.split('/') : ['', object.apiVersion];
  const paths = group === 'monitoring.coreos.com'
    ? [`@kubernetes-models/prometheus-operator/${group}/${version}/${object.kind}`]
    : [`kubernetes-models/${group ? group + '/' : ''}${version}/${object.kind}`, `kubernetes-models/${group.replace(/\.k8s\.io$/, '')}/${version}/${object.kind}`];
  for (const path of paths) {
    try {
      return (await import(path))[object.kind];
    } catch (error) {
      if (!/ERR_MODULE_NOT_FOUND|ERR_PACKAGE_PATH_NOT_EXPORTED|Cannot find/.test(String(error.code ?? error))) throw error;
    }
  }
  return null;
}

// Walks the value beside the type's attributes: "Array<T>", "{ [key: string]: T; }", "V1T", or a plain one.
function walk(object, type, value, path) {
  const list = /^(?:Array|Set)<(.*)>$/.exec(type), map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
  if (list) return Array.isArray(value) && value.forEach((v, i) => walk(object, list[1], v, `${path}[${i}]`));
  if (map) return value && Object.entries(value).forEach(([k, v]) => walk(object, map[1], v, `${path}.${k}`));
  const known = official[type]?.getAttributeTypeMap?.();
  if (!known || value === null || typeof value !== 'object') return;
  for (const [key, member] of Object.entries(value)) {
    const attribute = known.find((a) => a.baseName === key);
    if (attribute) walk(object, attribute.type, member, `${path}.${key}`);
    else fault(object, `${path}.${key}: no such member of ${type}`);
  }
}

const objects = yaml.loadAll(readFileSync(0, 'utf8')).filter(Boolean);
for (const object of objects) {
  if (!object.apiVersion || !object.kind || !object.metadata?.name) {
    fault(object, 'apiVersion, kind or metadata.name is missing');
    continue;
  }
  const Model = await model(object);
  if (!Model) fault(object, `no schema of ${object.apiVersion} ${object.kind}`);
  else {
    try {
      new Model(object).validate();
    } catch (error) {
      fault(object, error.message);
    }
  }
  const version = object.apiVersion.split('/').pop();
  walk(object, version[0].toUpperCase() + version.slice(1) + object.kind, object, object.kind);
}
if (objects.length === 0) fault({}, 'no object');
console.log(`${objects.length} objects, ${faults} faults`);
process.exit(faults ? 1 : 0);
