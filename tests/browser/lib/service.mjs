// A stand-in API and a sidecar in front of it, on free ports; what is started here is stopped here.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';

const top = fileURLToPath(new URL('../../..', import.meta.url));
const build = join(top, process.env.BUILD ?? 'build');
/** Recommendations within seconds. */
export const QUICK_ADVICE = { 'performance.recommendation_interval': '2s', 'performance.experiment_slice': '2s' };
export const KEY = 'po_demoDemo0000000000000001';

/** Starts a program and waits for the lines that `wanted` names; gives what each matched first. */
const children = new Set();
/** Ends what a failed test has left. */
export function stopAll() {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
}
process.on('exit', stopAll);

async function begin(program, args, wanted) {
  const child = spawn(join(build, program), args, { stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  const found = {};
  const said = [];
  await new Promise((resolve, reject) => {
    const read = (line) => {
      said.push(line);
      for (const [name, pattern] of Object.entries(wanted)) found[name] ??= pattern.exec(line)?.[1];
      if (Object.keys(wanted).every((name) => found[name])) resolve();
    };
    createInterface({ input: child.stdout }).on('line', read);
    createInterface({ input: child.stderr }).on('line', read);
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${program} ended with ${code}:\n${said.slice(-20).join('\n')}`)));
    setTimeout(() => reject(new Error(`${program} did not start in 10 s:\n${said.join('\n')}`)), 10_000).unref();
  });
  child.removeAllListeners('exit');
  return {
    ...found,
    said,
    async stop(signal = 'SIGINT') {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill(signal);
      await ended;
    },
  };
}

export async function startOrigin(...args) {
  const origin = await begin('promptops-origin', ['--listen', '127.0.0.1:0', '--limits', '10000,100000,1000000', ...args], { address: /listening on (\S+)/ });
  origin.url = `http://${origin.address}`;
  origin.control = async (settings) => {
    const answer = await fetch(`${origin.url}/__control`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(settings) });
    if (!answer.ok) throw new Error(await answer.text());
  };
  return origin;
}

/** `settings`: keys as in the configuration. The address of the admin port is kept when it is given. */
export async function startSidecar(origin, settings = {}, admin = '127.0.0.1:0') {
  const set = { 'performance.dashboard_refresh_interval': '1', 'log.access': 'false', ...settings };
  const args = ['--upstream', origin.url, '--listen', '127.0.0.1:0', '--admin', admin, ...Object.entries(set).flatMap(([key, value]) => ['--set', `${key}=${value}`])];
  const sidecar = await begin('promptops-sidecar', args, {
    address: /"event":"listening","address":"([^"]+)"/,
    admin: /"event":"admin_listening","address":"([^"]+)"/,
  });
  sidecar.url = `http://${sidecar.address}`;
  sidecar.page = `http://${sidecar.admin}/`;
  sidecar.get = async (path, headers = {}) => (await fetch(sidecar.page + path, { headers })).json();
  sidecar.ask = (path, init = {}) => fetch(sidecar.url + path, { ...init, headers: { Authorization: `Bearer ${KEY}`, ...init.headers } });
  return sidecar;
}

/** Waits until `what` gives something true, and gives that. */
export async function until(what, words, seconds = 15) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await what();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in ${seconds} s: ${words}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
