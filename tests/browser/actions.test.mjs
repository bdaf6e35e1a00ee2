// What can be done from the dashboard, and how it fares when the sidecar goes away or asks for a token.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openPage, startBrowser } from './lib/browser.mjs';
import { QUICK_ADVICE, startOrigin, startSidecar, stopAll, until } from './lib/service.mjs';

const TOKEN = 's3cret-of-the-operator';
const LIMIT = { timeout: 180_000 };
let origin, sidecar, browser, load, directory;

/** Eight clients at once, without pause, until stopped: two connections are too few for them. */
function startLoad() {
  let over = false;
  const one = async (n) => {
    while (!over) await (await sidecar.ask(`/v1/client/prompts/prompt-${n}?fresh=${Math.random()}`)).arrayBuffer();
  };
  const all = Array.from({ length: 8 }, (_, n) => one(n + 1));
  return {
    stop: () => {
      over = true;
      return Promise.allSettled(all);
    },
  };
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dashboard-'));
  browser = await startBrowser();
  origin = await startOrigin('--no-limits');
  await origin.control({ faults: [{ latency: { mean_ms: 50 } }] });
  sidecar = await startSidecar(origin, { ...QUICK_ADVICE, 'pool.strategy': 'fixed', 'pool.max_size': 2, 'rate_limit.mode': 'observe', 'concurrency.mode': 'off' });
  load = startLoad(); // the recommendation rests on some windows of this
});

after(async () => {
  await load?.stop();
  await browser?.close();
  await sidecar?.stop();
  await origin?.stop();
  stopAll();
  rmSync(directory, { recursive: true, force: true });
});

const option = async (key) => (await sidecar.get('api/v1/config')).options[key];

test('a token is asked for once, kept where no script reads it, and given back', LIMIT, async () => {
  const file = join(directory, 'token');
  writeFileSync(file, `${TOKEN}\n`);
  const guarded = await startSidecar(origin, { 'admin.token_file': file });
  const { page, wrong, close } = await openPage(browser, guarded.page, '#/cache?range=1h', { expected: /status of 401.*session/ });
  await page.locator('#token').fill('wrong');
  await page.keyboard.press('Enter');
  await until(async () => (await page.locator('#wrong').textContent()).includes('not the admin token'), 'the refusal');
  await page.locator('#token').fill(TOKEN);
  await page.keyboard.press('Enter');
  await page.locator('#hit-rate').waitFor();
  await until(async () => (await page.locator('#link').textContent()).startsWith('Live'), 'the live page');
  const [cookie] = await page.context().cookies();
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, 'Strict');
  assert.ok(!cookie.value.includes(TOKEN));
  assert.ok(!page.url().includes(TOKEN));
  assert.equal(await page.evaluate((token) => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, document.documentElement.innerHTML]).includes(token), TOKEN), false);
  await page.reload();
  await page.locator('#hit-rate').waitFor(); // still known
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.locator('#token').waitFor();
  assert.equal((await fetch(`${guarded.page}api/v1/summary`)).status, 401);
  assert.deepEqual(wrong, []);
  await close();
  await guarded.stop();
});

test('the sidecar goes and comes back: the page says how old its numbers are, and goes on by itself', LIMIT, async () => {
  let mortal = await startSidecar(origin);
  const { page, wrong, close } = await openPage(browser, mortal.page, undefined, { expected: /ERR_CONNECTION|ERR_SOCKET_NOT_CONNECTED|WebSocket/ });
  await page.locator('#throughput').waitFor();
  await until(async () => (await page.locator('#link').textContent()).startsWith('Live'), 'the live page');
  await mortal.stop();
  await page.getByRole('alert').waitFor();
  assert.match(await page.getByRole('alert').textContent(), /does not answer.*What is shown is of .*Trying again by itself/);
  assert.match(await page.locator('#link').textContent(), /^Not connected/);
  mortal = await startSidecar(origin, {}, mortal.admin);
  await until(async () => (await page.locator('#link').textContent()).startsWith('Live'), 'the page to be live again', 20);
  await page.getByRole('alert').waitFor({ state: 'detached' });
  assert.deepEqual(wrong, []);
  await close();
  await mortal.stop();
});

test('a setting is changed and the change taken back', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/configuration?find=retry.max_attempts', { expected: /status of 400.*config/ });
  await page.getByRole('button', { name: 'Change retry.max_attempts' }).click();
  const field = page.getByRole('textbox', { name: 'retry.max_attempts' });
  await field.fill('banana');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('.toast.bad').waitFor();
  assert.match(await page.locator('.toast.bad').textContent(), /retry\.max_attempts/);
  await field.fill('5');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('button', { name: 'Take the change of retry.max_attempts back' }).waitFor();
  assert.deepEqual([(await option('retry.max_attempts')).value, (await option('retry.max_attempts')).origin], [5, 'admin']);
  await page.getByRole('button', { name: 'Take the change of retry.max_attempts back' }).click();
  await until(async () => (await option('retry.max_attempts')).value === 3, 'the old value');
  const every = (seconds) => fetch(`${sidecar.page}api/v1/config`, { method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ 'performance.dashboard_refresh_interval': seconds }) });
  assert.match(await page.locator('#link').textContent(), /every 1 s/);
  await every(2);
  await until(async () => (await page.locator('#link').textContent()).includes('every 2 s'), 'the new interval of refreshes');
  await every(1);
  assert.deepEqual(wrong, []);
  await close();
});

test('an alert is silenced, spoken again and switched off', LIMIT, async () => {
  const put = await fetch(`${sidecar.page}api/v1/alerts/busy`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ metric_type: 'THROUGHPUT', condition: '> 0', severity: 'warning', message: 'There is traffic.' }) });
  assert.equal(put.status, 200);
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/alerts?range=5m');
  const busy = async () => (await sidecar.get('api/v1/alerts')).alerts.find((one) => one.id === 'busy');
  await page.getByRole('button', { name: 'Silence busy for 1 hour' }).click();
  await page.locator('#active-alerts').getByRole('button', { name: 'End the silence' }).waitFor();
  assert.ok(Date.parse((await busy()).silenced_until) > Date.now() + 3_500_000);
  await page.locator('#active-alerts').getByRole('button', { name: 'End the silence' }).click();
  await until(async () => (await busy()).silenced_until === null, 'the end of the silence');
  await page.getByRole('button', { name: 'Switch busy off' }).click();
  await until(async () => !(await busy()).enabled, 'the alert to be off');
  assert.deepEqual(wrong, []);
  await close();
});

test('an entry and a prefix are purged', LIMIT, async () => {
  for (const id of [91, 92, 93]) await (await sidecar.ask(`/v1/client/prompts/prompt-${id}`)).arrayBuffer();
  const stored = async (id) => (await sidecar.get('api/v1/cache/entries?limit=10000')).entries.some((entry) => entry.uri === `/v1/client/prompts/prompt-${id}`);
  assert.ok((await stored(91)) && (await stored(92)));
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/cache?range=5m');
  await page.locator('#entries select').selectOption('cost');
  const costliest = async () => (await sidecar.get('api/v1/cache/entries?sort=cost&limit=3')).entries.map((entry) => entry.uri);
  await until(async () => (await page.locator('#entries td.lead').allTextContents()).slice(0, 3).join() === (await costliest()).join(), 'the costliest entries first');
  assert.match(page.url(), /sort=cost/);
  await page.locator('#purge select').selectOption('key');
  await page.locator('#purge input').fill('/v1/client/prompts/prompt-91');
  await page.locator('#purge').getByRole('button', { name: 'Purge' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  assert.ok(await stored(91), 'nothing is purged without a yes');
  await page.locator('#purge').getByRole('button', { name: 'Purge' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Purge' }).click();
  await until(async () => !(await stored(91)), 'the entry to be gone');
  assert.ok(await stored(92));
  assert.deepEqual(wrong, []);
  await close();
});

test('a recommendation is tried, watched and taken back', LIMIT, async () => {
  await until(async () => (await sidecar.get('api/v1/recommendations')).recommendations.some((one) => one.id === 'pool-size'), 'the recommendation', 60);
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/recommendations?range=5m');
  const card = page.locator('#advice-pool-size');
  await card.waitFor();
  const { recommendations } = await sidecar.get('api/v1/recommendations');
  const told = recommendations.find((one) => one.id === 'pool-size');
  assert.equal(await card.locator('.gain').textContent(), told.estimated_improvement);
  assert.ok((await card.textContent()).includes(told.evidence.because));
  await card.getByRole('button', { name: 'Try it' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Try it' }).click();
  await card.getByRole('button', { name: 'End the experiment' }).waitFor();
  assert.match(await page.locator('#experiment-pool-size').textContent(), /\d+ of \d+/);
  assert.equal((await sidecar.get('api/v1/recommendations')).experiment, 'pool-size');
  await card.getByRole('button', { name: 'End the experiment' }).click();
  await card.getByText('Taken back').waitFor();
  assert.equal((await option('pool.max_size')).value, 2);
  assert.deepEqual(wrong, []);
  await close();
});
