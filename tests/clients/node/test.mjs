// Node's clients through the sidecar: undici, axios and the openai package with its base URL changed.
//
//     BUILD=build node tests/clients/node/test.mjs
//
// The upstream is made here, so that the openai package finds what it asks for. The sidecar learns nothing of all this:
// it is pointed at the upstream, and the clients at it. Last line: `N passed, N failed`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import axios from 'axios';
import OpenAI from 'openai';
import { Agent, ProxyAgent, WebSocket, fetch, request } from 'undici';

const BUILD = process.env.BUILD ?? 'build';
const UPLOAD = randomBytes(6 << 20);
const DIGEST = createHash('sha256').update(UPLOAD).digest('hex');
const WORDS = ['Hello', ', ', 'wire', '!'];
const seen = [];                       // what reached the upstream: `METHOD path`, newest last
let release = () => {};                // lets the next event of a stream go

const nextTurn = () => new Promise((resolve) => { release = resolve; });

async function bodyOf(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts);
}

function json(res, value, status = 200) {
  const text = JSON.stringify(value);
  res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
}

async function chat(req, res) {
  const ask = JSON.parse(await bodyOf(req));
  if (req.headers.authorization !== 'Bearer sk-test') return json(res, { error: { message: 'key' } }, 401);
  const head = { id: 'c1', created: 1, model: ask.model };
  if (!ask.stream) {
    return json(res, { ...head, object: 'chat.completion', choices: [{ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: WORDS.join('') } }] });
  }
  res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  for (const content of WORDS) {
    const turn = nextTurn();           // made first: the client may be quick
    res.write(`data: ${JSON.stringify({ ...head, object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content } }] })}\n\n`);
    await turn;                        // the next is sent only when the client has this one
  }
  return res.end('data: [DONE]\n\n');
}

const ROUTES = {
  '/json': (req, res) => json(res, { method: req.method, agent: req.headers['user-agent'] ?? null, coding: req.headers['accept-encoding'] ?? null }),
  '/upload': async (req, res) => { const body = await bodyOf(req); json(res, { length: body.length, sha256: createHash('sha256').update(body).digest('hex') }); },
  '/teapot': (req, res) => json(res, { error: 'short and stout' }, 418),
  '/cached': (req, res) => { res.setHeader('Cache-Control', 'max-age=60'); json(res, { number: seen.length }); },
  '/redirect': (req, res) => { res.writeHead(302, { Location: '/json', 'Content-Length': 0 }); res.end(); },
  '/hang': () => {},
  '/endless': (req, res) => {
    res.on('close', () => { seen.push('left /endless'); });
    const more = () => { while (!res.destroyed && res.write(UPLOAD.subarray(0, 65536))); };
    res.on('drain', more);
    more();
  },
  '/v1/chat/completions': chat,
  '/v1/embeddings': async (req, res) => { await bodyOf(req); json(res, { object: 'list', model: 'e', data: [{ object: 'embedding', index: 0, embedding: [0.5, -0.25] }], usage: { prompt_tokens: 1, total_tokens: 1 } }); },
  '/v1/models': (req, res) => json(res, { object: 'list', data: [{ id: 'm1', object: 'model' }, { id: 'm2', object: 'model' }] }),
};

function echoFrames(socket) {
  // Masked client frames of a known shape come back unmasked: enough of RFC 6455 for an echo.
  let held = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (data) => {
    held = Buffer.concat([held, data]);
    for (;;) {
      if (held.length < 2) return;
      let n = held[1] & 127, at = 2;
      if (n === 126) { if (held.length < 4) return; n = held.readUInt16BE(2); at = 4; } else if (n === 127) { if (held.length < 10) return; n = Number(held.readBigUInt64BE(2)); at = 10; }
      if (held.length < at + 4 + n) return;
      const mask = held.subarray(at, at + 4), payload = Buffer.from(held.subarray(at + 4, at + 4 + n));
      for (let i = 0; i < n; i++) payload[i] ^= mask[i & 3];
      const length = n < 126 ? Buffer.from([n]) : n < 65536 ? Buffer.from([126, n >> 8, n & 255]) : Buffer.concat([Buffer.from([127, 0, 0, 0, 0]), Buffer.from([n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255])]);
      socket.write(Buffer.concat([Buffer.from([held[0]]), length, payload]));
      if ((held[0] & 15) === 8) return socket.end();
      held = held.subarray(at + 4 + n);
    }
  });
}

async function startUpstream() {
  const server = createServer((req, res) => {
    seen.push(`${req.method} ${req.url}`);
    const route = ROUTES[req.url.split('?')[0]];
    if (!route) return json(res, { error: 'no such path' }, 404);
    return Promise.resolve(route(req, res)).catch((error) => { console.log('upstream:', error); res.destroy(); });
  });
  server.on('upgrade', (req, socket) => {
    const accept = createHash('sha1').update(req.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    echoFrames(socket);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return server;
}

async function startSidecar(upstream) {
  const child = spawn(`${BUILD}/promptops-sidecar`, ['--upstream', upstream, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise((resolve) => { child.on('exit', (code, signal) => resolve(code ?? signal)); });
  child.on('error', (error) => { console.log(`${error}`); process.exit(1); });
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => { if (line.includes('"listening"')) resolve(`http://${JSON.parse(line).address}`); });
    ended.then((code) => reject(new Error(`the sidecar ended with ${code}`)));
  });
  return { child, ended, url };
}

const tests = {
  async 'undici: JSON on one connection'(url) {
    const dispatcher = new Agent({ connections: 1, pipelining: 1 });
    for (let i = 0; i < 5; i++) assert.equal((await (await request(`${url}/json`, { dispatcher })).body.json()).method, 'GET');
    await dispatcher.close();
  },
  async 'undici: pipelining'(url) {
    const dispatcher = new Agent({ connections: 1, pipelining: 8 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => request(`${url}/json`, { dispatcher })));
    for (const answer of answers) assert.equal((await answer.body.json()).method, 'GET');
    await dispatcher.close();
  },
  async 'undici: fetch, statuses and redirects'(url) {
    assert.equal((await fetch(`${url}/teapot`)).status, 418);
    assert.equal((await (await fetch(`${url}/redirect`)).json()).method, 'GET');
  },
  async 'undici: uploads with a length and in chunks'(url) {
    assert.equal((await (await request(`${url}/upload`, { method: 'POST', body: UPLOAD })).body.json()).sha256, DIGEST);
    async function* parts() { for (let at = 0; at < UPLOAD.length; at += 65536) yield UPLOAD.subarray(at, at + 65536); }
    assert.equal((await (await request(`${url}/upload`, { method: 'POST', body: parts() })).body.json()).sha256, DIGEST);
  },
  async 'undici: an aborted request leaves no mark'(url) {
    const abort = new AbortController();
    const pending = fetch(`${url}/hang`, { signal: abort.signal });
    while (!seen.includes('GET /hang')) await new Promise(setImmediate);
    abort.abort();
    await assert.rejects(pending, { name: 'AbortError' });
    assert.equal((await fetch(`${url}/json`)).status, 200);
  },
  async 'undici: a download that is given up ends upstream'(url) {
    const { body } = await request(`${url}/endless`);
    for await (const part of body) { assert.ok(part.length > 0); break; }
    while (!seen.includes('left /endless')) await new Promise((resolve) => { setTimeout(resolve, 5); });
    assert.equal((await fetch(`${url}/json`)).status, 200);
  },
  async 'undici: a proxy by CONNECT is refused, in words'(url) {
    const dispatcher = new ProxyAgent(url);
    await assert.rejects(request('http://api.example.test/json', { dispatcher }), /405/);
    await dispatcher.close();
  },
  async 'axios: the sidecar as a forward proxy'(url) {
    const { hostname: host, port } = new URL(url);
    const { data } = await axios.get('http://api.example.test/json', { proxy: { protocol: 'http', host, port: Number(port) } });
    assert.equal(data.method, 'GET');
    assert.ok(seen.includes('GET /json'));
  },
  async 'axios: a request that is cancelled'(url) {
    const abort = new AbortController(), before = seen.filter((line) => line === 'GET /hang').length;
    const pending = axios.get(`${url}/hang`, { signal: abort.signal });
    while (seen.filter((line) => line === 'GET /hang').length === before) await new Promise(setImmediate);
    abort.abort();
    await assert.rejects(pending, axios.isCancel);
    assert.equal((await axios.get(`${url}/json`)).status, 200);
  },
  async 'openai: a stream that is given up'(url) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-test', maxRetries: 0 });
    const stream = await client.chat.completions.create({ model: 'm1', stream: true, messages: [{ role: 'user', content: 'x' }] });
    for await (const part of stream) { assert.equal(part.choices[0].delta.content, WORDS[0]); break; }
    release();
    assert.deepEqual((await client.models.list()).data.map((m) => m.id), ['m1', 'm2']);
  },
  async 'undici: WebSocket'(url) {
    const socket = new WebSocket(url.replace('http', 'ws') + '/ws');
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    for (const text of ['one', 'two'.repeat(100), 'three'.repeat(30000)]) {
      const answer = new Promise((resolve) => { socket.onmessage = (event) => resolve(event.data); });
      socket.send(text);
      assert.equal(await answer, text);
    }
    const closed = new Promise((resolve) => { socket.onclose = resolve; });
    socket.close();
    await closed;
  },
  async 'axios: JSON, errors and a cached answer'(url) {
    const client = axios.create({ baseURL: url });
    assert.equal((await client.post('/json', { a: 1 })).data.method, 'POST');
    await assert.rejects(client.get('/teapot'), (error) => error.response.status === 418 && error.response.data.error === 'short and stout');
    const [one, two] = [await client.get('/cached'), await client.get('/cached')];
    assert.equal(two.data.number, one.data.number);
    assert.match(two.headers['cache-status'], /promptops-sidecar; hit/);
  },
  async 'axios: upload and streamed download'(url) {
    assert.equal((await axios.post(`${url}/upload`, UPLOAD, { maxBodyLength: Infinity })).data.sha256, DIGEST);
    const { data } = await axios.get(`${url}/json`, { responseType: 'stream' });
    let text = '';
    for await (const part of data) text += part;
    assert.equal(JSON.parse(text).method, 'GET');
  },
  async 'openai: chat, embeddings and models'(url) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-test', maxRetries: 0 });
    const messages = [{ role: 'user', content: 'hello' }];
    assert.equal((await client.chat.completions.create({ model: 'm1', messages })).choices[0].message.content, 'Hello, wire!');
    assert.deepEqual((await client.embeddings.create({ model: 'e', input: 'x', encoding_format: 'float' })).data[0].embedding, [0.5, -0.25]);
    assert.deepEqual((await client.models.list()).data.map((m) => m.id), ['m1', 'm2']);
  },
  async 'openai: a stream, event by event'(url) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-test', maxRetries: 0 });
    const words = [];
    for await (const part of await client.chat.completions.create({ model: 'm1', stream: true, messages: [{ role: 'user', content: 'x' }] })) {
      words.push(part.choices[0].delta.content);
      release();
    }
    assert.deepEqual(words, WORDS);
  },
  async 'openai: an error is the upstream\'s own'(url) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
    await assert.rejects(client.chat.completions.create({ model: 'm1', messages: [] }), OpenAI.AuthenticationError);
  },
};

const upstream = await startUpstream();
const sidecar = await startSidecar(`http://127.0.0.1:${upstream.address().port}`);
let passed = 0, failed = 0;
for (const [name, test] of Object.entries(tests)) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('took more than 20 s')), 20000); });
  try {
    await Promise.race([test(sidecar.url), late]);
    passed++;
  } catch (error) {
    failed++;
    console.log(`FAILED ${name}\n${error.stack ?? error}`);
  } finally {
    clearTimeout(timer);
  }
}
sidecar.child.kill('SIGINT');
const code = await Promise.race([sidecar.ended, new Promise((resolve) => { setTimeout(resolve, 35000, 'still running').unref(); })]);
if (code !== 0) {
  failed++;
  console.log(`FAILED the sidecar ended with ${code}`);
  sidecar.child.kill('SIGKILL');
}
upstream.closeAllConnections();
upstream.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
