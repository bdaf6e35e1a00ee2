// The dashboard in a real browser, in front of a running sidecar with traffic.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { coloursDrawn, drawnOption, exported, openPage, startBrowser } from './lib/browser.mjs';
import { startOrigin, startSidecar, until } from './lib/service.mjs';

let origin, sidecar, browser;

before(async () => {
  [origin, browser] = await Promise.all([startOrigin(), startBrowser()]);
  sidecar = await startSidecar(origin);
});

after(async () => {
  await browser?.close();
  await sidecar?.stop();
  await origin?.stop();
});

const series = (type, range = 300, step = 1) => sidecar.get(`api/v1/metrics?metric_type=${type}&start_time=-${range}s&step=${step}s`);

/** Ten prompts, three times each, one of which is not there. */
async function traffic() {
  for (let round = 0; round < 3; round++)
    for (let i = 1; i <= 10; i++) {
      const answer = await sidecar.ask(`/v1/client/prompts/prompt-${i}`);
      assert.equal(answer.status, 200);
      await answer.arrayBuffer();
    }
}

test('an empty sidecar says what to do', async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page);
  await page.locator('#throughput').waitFor();
  await until(async () => (await page.locator('#latency .empty').textContent())?.includes('Point your application at the sidecar'), 'the words for no traffic');
  assert.deepEqual(wrong, []);
  await close();
});

test('the overview draws what the API says', async () => {
  await traffic();
  const { page, wrong, close } = await openPage(browser, sidecar.page);
  for (const id of ['throughput', 'latency', 'gauge-hits', 'gauge-errors', 'rates', 'memory', 'cpu']) {
    await page.locator(`#${id} [data-drawn]`).waitFor();
    await until(async () => (await coloursDrawn(page, id)) > 5, `something drawn in ${id}`);
  }
  const told = await series('REQUEST_LATENCY');
  assert.ok(told.points.length > 0);
  const { rows } = await until(async () => {
    const got = await exported(page, 'latency');
    return got.rows.length >= told.points.length && got;
  }, 'the latency of the API in the chart');
  for (const point of told.points) {
    const row = rows.find((one) => Date.parse(one.time) === Date.parse(point.time));
    assert.ok(row, `no row of ${point.time}`);
    assert.equal(row.p95, point.p95);
  }
  const option = await drawnOption(page, 'latency');
  const p95 = option.series.find((one) => one.name === 'p95');
  const values = p95.data.map((one) => (one.value ?? one)[1]).filter((v) => v !== null);
  assert.deepEqual(values, rows.map((row) => row.p95));
  const summary = await sidecar.get('api/v1/summary?window=300s');
  assert.ok(Math.abs(summary.cache_hit_rate - 2 / 3) < 1e-9);
  assert.match(await page.locator('#tile-hits .tile-value').textContent(), /^66\.7%$/);
  assert.deepEqual(wrong, []);
  await close();
});
