// What a MutatingAdmissionPolicy makes of pods, without an API server: [{"policy": OBJECT, "object": POD}...] on standard input,
// on standard output a list with each pod afterwards, `null` where the policy does not apply to it, or {"fault": TEXT}. The
// expressions are read and evaluated by a real CEL evaluator; what Kubernetes asks beyond that is checked here:
//   - a type's name is the path where its value lies (Object.spec.volumes.secret), its fields are those that the type really has;
//   - lists and maps that are written out hold values of one type; the result is a list of JSONPatch;
//   - a patch (RFC 6902) fits the object. Only `add` is known: the chart makes no other.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { celEnv, isCelError, isCelList, isCelMap, parse, plan } from '@bufbuild/cel';

const require = createRequire(import.meta.url);
const official = await import(require.resolve('@kubernetes/client-node').replace(/dist\/.*$/, 'dist/gen/models/all.js'));
const MEMBERS = { op: 'string', path: 'string', from: 'string', value: null };

function fail(text) {
  throw new Error(text);
}

// The official client's type of an object at a path below a pod: "Object.spec.volumes" is a V1Volume.
function typeAt(path) {
  let type = 'V1Pod';
  for (const part of path.split('.').slice(1)) {
    const member = official[type]?.getAttributeTypeMap?.().find((a) => a.baseName === part);
    if (!member) fail(`${path}: ${type} has no ${part}`);
    type = /^Array<(.*)>$/.exec(member.type)?.[1] ?? member.type;
  }
  return type;
}

const kind = (e) => (e.exprKind.case === 'constExpr' ? e.exprKind.value.constantKind.case : e.exprKind.case);

function oneType(expressions, what) {
  const kinds = new Set(expressions.map(kind).map((k) => (k === 'callExpr' || k === 'identExpr' || k === 'selectExpr' ? 'any' : k)));
  kinds.delete('any');
  if (kinds.size > 1) fail(`${what} holds ${[...kinds].join(' and ')}`);
}

// Objects become maps from names to values, once their types are seen to be right. `at`: the path of the field that the
// expression is the value of; null: any.
function settle(e, at) {
  const { case: sort, value } = e.exprKind;
  if (sort === 'listExpr') {
    oneType(value.elements, `the list at ${at}`);
    value.elements.forEach((v) => settle(v, at));
  } else if (sort === 'structExpr') {
    const name = value.messageName;
    if (name === '') oneType(value.entries.map((v) => v.value), `the map at ${at}`);
    else if (name !== 'JSONPatch' && !/^Object(\.|$)/.test(name)) fail(`no type ${name}`);
    else if (at !== null && name !== at) fail(`${name} at ${at}`);
    const type = name === '' || name === 'JSONPatch' ? null : typeAt(name);
    if (type && !official[type]) fail(`${name} is ${type}, no object`);
    for (const entry of value.entries) {
      const field = entry.keyKind.value;
      if (name === '') settle(entry.value, null);
      else if (name === 'JSONPatch') {
        if (!(field in MEMBERS)) fail(`JSONPatch has no ${field}`);
        if (MEMBERS[field] && kind(entry.value) === 'constExpr' && kind(entry.value) !== 'stringValue') fail(`JSONPatch.${field} is no string`);
        settle(entry.value, null);
      } else {
        typeAt(`${name}.${field}`);
        settle(entry.value, `${name}.${field}`);
      }
      if (entry.keyKind.case === 'fieldKey') {
        const key = { case: 'constExpr', value: { constantKind: { case: 'stringValue', value: field } } };
        entry.keyKind = { case: 'mapKey', value: { id: entry.id, exprKind: key } };
      }
    }
    value.messageName = '';
  } else if (sort === 'callExpr') {
    value.args.forEach((v) => settle(v, at));
  }
}

const plain = (v) => {
  if (isCelList(v)) return [...v].map(plain);
  if (isCelMap(v)) return Object.fromEntries([...v.entries()].map(([k, w]) => [k, plain(w)]));
  if (typeof v === 'bigint') return Number(v);
  if (v === null || ['string', 'number', 'boolean'].includes(typeof v)) return v;
  return fail(`a value of another kind: ${v}`);
};

function evaluate(text, object) {
  const tree = parse(text);
  settle(tree.expr, null);
  const value = plan(celEnv(), tree)({ object });
  if (isCelError(value)) fail(`${value} in ${text}`);
  return value;
}

function patch(object, { op, path, value, ...more }) {
  if (op !== 'add' || value === undefined || Object.keys(more).length) fail(`a patch with ${op} ${Object.keys(more)}`);
  const parts = path.split('/').slice(1).map((p) => p.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = parts.pop();
  let at = object;
  for (const part of parts) {
    at = at?.[part];
    if (typeof at !== 'object') fail(`${path}: there is no ${part}`);
  }
  if (!Array.isArray(at)) at[last] = value;
  else if (last === '-') at.push(value);
  else fail(`${path}: not the end of the list`);
}

function mutate({ policy, object }) {
  if ((policy.spec.matchConditions ?? []).some((c) => evaluate(c.expression, object) !== true)) return null;
  for (const mutation of policy.spec.mutations) {
    if (mutation.patchType !== 'JSONPatch') fail(`${mutation.patchType} is not evaluated here`);
    plain(evaluate(mutation.jsonPatch.expression, object)).forEach((p) => patch(object, p));
  }
  return object;
}

const answers = JSON.parse(readFileSync(0, 'utf8')).map((question) => {
  try {
    return mutate(question);
  } catch (error) {
    return { fault: error.message };
  }
});
console.log(JSON.stringify(answers));
