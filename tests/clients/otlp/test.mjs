// What the sidecar sends to an OpenTelemetry collector, read by OpenTelemetry's own generated decoder: by gRPC (grpc-js) and by
// HTTP/protobuf, out of one run.
//
//     BUILD=build node tests/clients/otlp/test.mjs
//
// Each message must come back byte for byte when it is written again: so it has no field that the official schema lacks. Last
// line: `N passed, N failed`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import grpc from '@grpc/grpc-js';

const require = createRequire(import.meta.url);
const root = require('./node_modules/@opentelemetry/otlp-transformer/build/src/generated/root.js');
const { metrics, trace } = root.opentelemetry.proto.collector;
const SIGNALS = {
  metrics: { path: '/v1/metrics', rpc: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export', request: metrics.v1.ExportMetricsServiceRequest, answer: metrics.v1.ExportMetricsServiceResponse },
  traces: { path: '/v1/traces', rpc: '/opentelemetry.proto.collector.trace.v1.TraceService/Export', request: trace.v1.ExportTraceServiceRequest, answer: trace.v1.ExportTraceServiceResponse },
};
const BUILD = process.env.BUILD ?? 'build';
const taken = { grpc: { metrics: [], traces: [] }, http: { metrics: [], traces: [] } };
const wrong = [];

function take(protocol, name, bytes) {
  const { request, answer } = SIGNALS[name];
  const message = request.decode(bytes);
  const again = Buffer.from(request.encode(message).finish());
  if (again.length !== bytes.length) wrong.push(`${protocol} ${name}: ${bytes.length} bytes, ${again.length} when written again`);
  taken[protocol][name].push(request.toObject(message, { longs: Number, bytes: String, enums: Number }));
  return Buffer.from(answer.encode({}).finish());
}

const same = (x) => x;
function collectByGrpc() {
  const server = new grpc.Server();
  for (const [name, signal] of Object.entries(SIGNALS)) {
    const method = { path: signal.rpc, requestStream: false, responseStream: false, requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
    server.addService({ Export: method }, { Export: (call, done) => { try { done(null, take('grpc', name, call.request)); } catch (error) { wrong.push(String(error)); done(error); } } });
  }
  return new Promise((resolve, reject) => server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve({ port, close: () => server.forceShutdown() }))));
}

async function bodyOf(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts);
}

function listen(handler) {
  const server = createServer(handler);
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port, close: () => { server.closeAllConnections(); server.close(); } })));
}

const collectByHttp = () => listen(async (req, res) => {
  const name = Object.keys(SIGNALS).find((k) => SIGNALS[k].path === req.url);
  try {
    assert.equal(req.headers['content-type'], 'application/x-protobuf');
    res.writeHead(200, { 'Content-Type': 'application/x-protobuf' }).end(take('http', name, await bodyOf(req)));
  } catch (error) {
    wrong.push(String(error));
    res.writeHead(400).end();
  }
});

async function until(condition, what) {
  for (const end = Date.now() + 30000; Date.now() < end;) {
    const value = await condition();
    if (value) return value;
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
  throw new Error(`waited in vain for ${what}`);
}

function startSidecar(upstream, endpoint) {
  const flags = ['--upstream', `http://127.0.0.1:${upstream}`, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--set', 'log.access=false', '--set', 'workers=2', '--set', 'retry.base_delay=5ms',
    '--set', 'retry.budget=1', '--set', 'cache.default_ttl=600', '--set', 'performance.opentelemetry_enabled=true', '--set', `performance.opentelemetry_endpoint=${endpoint}`, '--set', 'performance.export_interval=1s'];
  const child = spawn(`${BUILD}/promptops-sidecar`, flags, { stdio: ['ignore', 'ignore', 'pipe'] });
  return new Promise((resolve, reject) => {
    const found = { child };
    child.on('exit', (code) => reject(new Error(`the sidecar ended with ${code}`)));
    createInterface({ input: child.stderr }).on('line', (line) => {
      let entry = {};
      try { entry = JSON.parse(line); } catch { /* not of the log */ }
      if (entry.event === 'listening') found.url = `http://${entry.address}`;
      if (entry.event === 'admin_listening') found.admin = `http://${entry.address}`;
      if (found.url && found.admin) resolve(found);
    });
  });
}

// ---- what was taken ----

const valueOf = (v) => Object.values(v ?? {})[0];
const labels = (list) => Object.fromEntries((list ?? []).map((a) => [a.key, valueOf(a.value)]));
const newest = (protocol) => taken[protocol].metrics.at(-1).resourceMetrics[0].scopeMetrics.flatMap((s) => s.metrics);
const spansOf = (protocol) => taken[protocol].traces.flatMap((m) => m.resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans)));

/** {name{labels}: value} of the own counters and histograms (their counts), by the names of /metrics. */
function asPrometheus(list) {
  const found = new Map();
  for (const m of list.filter((one) => one.name.startsWith('promptops.'))) {
    const name = m.name.replace('.', '_') + (m.sum ? '_total' : '');
    for (const p of (m.sum ?? m.gauge ?? m.exponentialHistogram).dataPoints) {
      const pairs = Object.entries(labels(p.attributes)).map(([k, v]) => `${k}="${v}"`).sort().join(',');
      const put = (suffix, value) => found.set(name + suffix + (pairs ? `{${pairs}}` : ''), value);
      if (m.exponentialHistogram) put('_count', p.count);
      else put('', p.asDouble ?? p.asInt);
    }
  }
  return found;
}

async function prometheus(admin) {
  const text = await (await fetch(`${admin}/metrics`)).text();
  const found = new Map();
  for (const line of text.split('\n').filter((l) => l && !l.startsWith('#'))) {
    const at = line.lastIndexOf(' ');
    const [, name, , pairs] = /^([^{ ]+)({(.*)})?$/.exec(line.slice(0, at));
    found.set(name + (pairs ? `{${pairs.split(',').sort().join(',')}}` : ''), Number(line.slice(at + 1)));
  }
  return found;
}

// ---- the run ----

async function run() {
  let bad = 0;
  const upstream = await listen(async (req, res) => {
    await bodyOf(req);
    const fail = req.url.endsWith('/flaky') && bad++ === 0;
    res.writeHead(fail ? 503 : 200, { 'Content-Type': 'application/json' }).end('{}');
  });
  const [byGrpc, byHttp] = [await collectByGrpc(), await collectByHttp()];
  const sidecar = await startSidecar(upstream.port, `http://127.0.0.1:${byGrpc.port}`);
  const ended = new Promise((resolve) => { sidecar.child.removeAllListeners('exit').on('exit', resolve); });
  const counters = (map) => [...map].filter(([k]) => /^promptops_(requests|upstream_requests|retries|cache_|posted|client_bytes|request_duration_seconds_count|upstream_duration)/.test(k)).sort();
  const agree = async (protocol) => {
    const seen = taken[protocol].metrics.length;
    await until(() => taken[protocol].metrics.length >= seen + 2, `metrics by ${protocol}`);
    const theirs = asPrometheus(newest(protocol)), ours = await prometheus(sidecar.admin);
    const mine = new Map(counters(theirs));
    assert.ok(mine.size > 20, `only ${mine.size} counters`);
    for (const [k, v] of mine) assert.ok(Math.abs(ours.get(k) - v) < 1e-9, `${k}: /metrics ${ours.get(k)}, ${protocol} ${v}`);
    return mine;
  };
  try {
    for (const path of ['a', 'b', 'a', 'flaky']) assert.equal((await fetch(`${sidecar.url}/v1/client/prompts/${path}`)).status, 200);
    const posted = await fetch(`${sidecar.admin}/api/v1/custom-metrics`, { method: 'POST', headers: { 'X-Requested-With': 'test', 'Content-Type': 'application/json' }, body: JSON.stringify([{ name: 'app.size', value: -2.5, type: 'histogram' }, { name: 'app.jobs', value: 3, type: 'counter', attributes: { queue: 'a' } }]) });
    assert.equal(posted.status, 200, await posted.text());
    const first = await agree('grpc');
    const patched = await fetch(`${sidecar.admin}/api/v1/config`, { method: 'PATCH', headers: { 'X-Requested-With': 'test', 'Content-Type': 'application/json' }, body: JSON.stringify({ 'performance.opentelemetry_endpoint': `http://127.0.0.1:${byHttp.port}`, 'performance.opentelemetry_protocol': 'http/protobuf' }) });
    assert.equal(patched.status, 200, await patched.text());
    const second = await agree('http');
    assert.deepEqual([...second], [...first], 'gRPC and HTTP of one run');
    const jobs = newest('http').find((m) => m.name === 'app.jobs').sum;
    assert.deepEqual([jobs.dataPoints[0].asDouble, jobs.isMonotonic, jobs.aggregationTemporality, labels(jobs.dataPoints[0].attributes)], [3, true, 2, { queue: 'a' }]);
    const size = newest('http').find((m) => m.name === 'app.size').exponentialHistogram.dataPoints[0];
    assert.deepEqual([size.count, size.sum, size.min, size.negative.bucketCounts.filter((n) => n)], [1, -2.5, -2.5, [1]]);
    const spans = await until(() => spansOf('grpc').length >= 8 && spansOf('grpc'), 'spans');
    const flaky = spans.find((s) => s.kind === 2 && labels(s.attributes)['url.path'].endsWith('flaky'));
    const attempts = spans.filter((s) => s.parentSpanId === flaky.spanId);
    assert.deepEqual(attempts.map((s) => [s.kind, s.traceId, labels(s.attributes)['http.response.status_code'], s.status?.code ?? 0]), [[3, flaky.traceId, 503, 2], [3, flaky.traceId, 200, 0]]);
    assert.equal(flaky.name, 'GET /v1/client/prompts/{prompt_id}');
    assert.deepEqual(wrong, [], 'messages');
  } finally {
    sidecar.child.kill('SIGINT');
    await ended;
    for (const one of [upstream, byGrpc, byHttp]) one.close();
  }
}

try {
  await run();
  console.log('1 passed, 0 failed');
} catch (error) {
  console.log(error);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
}
