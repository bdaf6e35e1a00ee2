// Every chart of every page, drawn from traffic that the test made, and its numbers beside those of the API.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chartsOf, coloursDrawn, drawnOption, exported, openPage, startBrowser } from './lib/browser.mjs';
import { QUICK_ADVICE, startOrigin, startSidecar, stopAll, until } from './lib/service.mjs';

const LIMIT = { timeout: 180_000 };
let origin, sidecar, browser;

before(async () => {
  browser = await startBrowser();
  origin = await startOrigin();
  sidecar = await startSidecar(origin, { ...QUICK_ADVICE, 'cache.max_size': 12, 'cache.strategy': 'lru', 'circuit_breaker.circuit_breaker_threshold': 4, 'circuit_breaker.circuit_breaker_timeout': '60s' });
});

after(async () => {
  await browser?.close();
  await sidecar?.stop();
  await origin?.stop();
  stopAll();
});

const series = (type, operation) => sidecar.get(`api/v1/metrics?metric_type=${type}&start_time=-300s&step=1s${operation ? `&operation=${operation}` : ''}`);
const parts = async (type, by) => (await sidecar.get(`api/v1/metrics/parts?metric_type=${type}&by=${by}&start_time=-300s&step=1s`)).parts;
const snapshot = () => sidecar.get('api/v1/snapshot');
const sum = (list, of = (one) => one) => list.reduce((total, one) => total + of(one), 0);

async function ask(path, init) {
  const answer = await sidecar.ask(path, init);
  await answer.arrayBuffer();
  return answer.status;
}

/** Hits, misses, retries, failures, a breaker that opens, an alert that fires, and enough for a prediction of the hit rate. */
async function traffic() {
  await origin.control({ faults: [{ operation: 'get_prompt', times: 2, errors: { 503: 1 } }, { operation: 'list_versions', errors: { 500: 1 } }, { latency: { mean_ms: 4 } }] });
  for (let round = 0; round < 3; round++) for (let i = 1; i <= 10; i++) assert.equal(await ask(`/v1/client/prompts/prompt-${i}`), 200);
  assert.equal(await ask('/v1/client/prompts/no-such'), 404);
  for (let i = 0; i < 6; i++) assert.ok((await ask('/v1/client/prompts/prompt-1/versions')) >= 500);
  await until(async () => (await snapshot()).network.circuit.list_versions?.state === 'open', 'the breaker to open');
  const alert = { metric_type: 'THROUGHPUT', condition: '> 0', severity: 'warning', message: '<img src=x onerror=alert(1)>' };
  const set = await fetch(`${sidecar.page}api/v1/alerts/planted`, { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(alert) });
  assert.equal(set.status, 200, await set.text());
  await until(async () => {
    await Promise.all(Array.from({ length: 30 }, () => ask(`/v1/client/prompts/prompt-${1 + Math.floor(Math.random() ** 2 * 40)}`)));
    return (await sidecar.get('api/v1/cache/curve')).points.length && (await sidecar.get('api/v1/alerts/history')).total;
  }, 'the curve and the alert');
}

test('an empty sidecar says what to do', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page);
  await until(async () => (await page.locator('#latency .empty').textContent())?.includes('Point your application at the sidecar'), 'the words for no traffic');
  assert.deepEqual(wrong, []);
  await close();
});

/** Rows of a chart against the points of a series: each point is a row with its values. */
async function likeSeries(rows, type, columns, part = '') {
  const { points } = await series(type + part);
  assert.ok(points.length > 0, `the API has no ${type}`);
  let compared = 0;
  for (const point of points.slice(0, -2)) {
    const row = rows.find((one) => Date.parse(one.time) === Date.parse(point.time));
    if (!row) continue; // older than the chart's range by now
    for (const [column, statistic] of Object.entries(columns)) assert.equal(row[column], point[statistic], `${type} ${statistic} at ${point.time}`);
    compared++;
  }
  assert.ok(compared >= points.length - 4, `${compared} of ${points.length} points of ${type} are in the chart`);
}

const byName = (rows, column) => Object.fromEntries(rows.map((row) => [row[column], row]));

/** What each chart must show. A chart that is not here fails the test. */
const CHARTS = {
  overview: {
    throughput: (rows) => likeSeries(rows, 'THROUGHPUT', { 'Requests a second': 'mean' }),
    latency: (rows) => likeSeries(rows, 'REQUEST_LATENCY', { p50: 'p50', p95: 'p95', p99: 'p99' }),
    'gauge-hits': async ([row]) => assert.ok(Math.abs(row.value - (await sidecar.get('api/v1/summary?window=300s')).cache_hit_rate) < 1e-9),
    'gauge-errors': async ([row]) => assert.ok(Math.abs(row.value - (await sidecar.get('api/v1/summary?window=300s')).error_rate) < 1e-9),
    rates: (rows) => likeSeries(rows.filter((row) => row['Hit rate'] !== null), 'CACHE_HIT_RATE', { 'Hit rate': 'mean' }),
    memory: (rows) => likeSeries(rows, 'MEMORY_USAGE', { Memory: 'mean' }),
    cpu: (rows) => likeSeries(rows, 'CPU_USAGE', { Processor: 'mean' }),
  },
  requests: {
    'requests-throughput': (rows) => likeSeries(rows, 'THROUGHPUT', { 'Requests a second': 'mean' }),
    'requests-latency': (rows) => likeSeries(rows, 'REQUEST_LATENCY', { p50: 'p50', p99: 'p99', Longest: 'max' }),
    'latency-heat': async (rows) => assert.equal(sum(rows, (row) => row.value), sum((await series('REQUEST_LATENCY')).points, (point) => point.count)),
    'latency-distribution': async (rows) => assert.equal(sum(rows, (row) => row.Requests), sum((await series('REQUEST_LATENCY')).points, (point) => point.count)),
    operations: async (rows) => {
      const shown = byName(rows, 'operation');
      for (const one of (await snapshot()).requests.by_operation.filter((one) => one.requests)) assert.equal(shown[one.operation]['Answered well'] + shown[one.operation].Failed, one.requests);
      assert.equal(shown.list_versions.Failed, 6);
    },
    'operation-latency': async (rows) => assert.equal(byName(rows, 'operation').get_prompt.p95, byName(await parts('REQUEST_LATENCY', 'operation'), 'part').get_prompt.p95),
    // Young enough for the range to reach back to the start: what the range holds is what was counted.
    statuses: async (rows) => assert.deepEqual(Object.fromEntries(rows.map((row) => [row.status, row.answers])), Object.fromEntries((await snapshot()).requests.by_status.map((one) => [String(one.status), one.count]))),
    retries: async (rows) => {
      const told = {};
      for (const { reason, count } of (await snapshot()).requests.retries_by_reason) told[reason] = (told[reason] ?? 0) + count;
      assert.deepEqual(Object.fromEntries(rows.map((row) => [row.reason, row.Retries])), told);
    },
    'retries-time': (rows) => likeSeries(rows, 'RETRY_COUNT', { Retries: 'mean' }),
  },
  cache: {
    'hit-rate': (rows) => likeSeries(rows, 'CACHE_HIT_RATE', { 'Hit rate': 'mean' }),
    'cache-verdicts': async (rows) => assert.deepEqual(Object.fromEntries(rows.map((row) => [row.cache, row.answers])), Object.fromEntries((await snapshot()).requests.by_cache.map((one) => [one.cache, one.count]))),
    access: (rows) => assert.ok(rows.some((row) => row['requests a second'] === 'get_prompt' && row.value > 0) && rows.some((row) => row['requests a second'] === 'list_versions')),
    curve: async (rows) => {
      const { points } = await sidecar.get('api/v1/cache/curve');
      assert.equal(rows.length, points.length + 1, 'a point a size, and today');
      assert.ok(rows.every((row, i) => !i || row['Predicted hit rate'] >= rows[i - 1]['Predicted hit rate'] - 0.02));
    },
    tiers: async (rows) => assert.equal(sum(rows, (row) => row.Bytes), sum((await snapshot()).cache.tiers, (tier) => tier.bytes)),
    compression: null, // nothing here is compressed
  },
  network: {
    'phases-time': (rows) => likeSeries(rows.filter((row) => row['First byte'] !== null), 'NETWORK_LATENCY', { 'First byte': 'p95' }, '&phase=first_byte'),
    'pool-states': async (rows) => {
      const told = byName(await parts('CONNECTION_POOL_SIZE', 'state'), 'part');
      // A mean that each second moves: the page's may be two seconds older.
      assert.deepEqual(rows.map((row) => row.state).sort(), ['active', 'connecting', 'idle']);
      for (const row of rows) assert.ok(Math.abs(row.connections - told[row.state].mean) < 0.3 + told[row.state].mean * 0.15, `${row.state}: ${row.connections}, ${told[row.state].mean}`);
    },
    phases: async (rows) => {
      const told = byName(await parts('NETWORK_LATENCY', 'phase'), 'part');
      const { phases } = (await snapshot()).network;
      assert.equal(byName(rows, 'phase')['First byte'].p95, told.first_byte.p95);
      assert.equal(byName(rows, 'phase').TCP.p50, told.tcp.p50);
      assert.ok(Math.abs(told.first_byte.p95 / phases.first_byte.p95 - 1) < 0.03, 'the range is all that there was');
    },
    'round-trip': (rows) => likeSeries(rows, 'NETWORK_LATENCY', { Mean: 'mean', p95: 'p95' }),
    breakers: (rows) => assert.ok(rows.some((row) => row.breaker === 'list_versions' && row.state === 'open') && rows.some((row) => row.breaker === 'list_versions' && row.state === 'closed')),
    concurrency: async (rows) => {
      await likeSeries(rows, 'CONNECTION_POOL_SIZE', { Limit: 'mean' }, '&state=limit');
      assert.equal(rows.at(-1).Limit, (await snapshot()).network.rate_limits.concurrency.limit);
    },
    'pool-use': async (rows) => {
      await likeSeries(rows, 'CONNECTION_POOL_SIZE', { Idle: 'mean' }, '&state=idle');
      await likeSeries(rows, 'CONNECTION_POOL_SIZE', { 'Requests waiting': 'max' }, '&state=waiting');
      assert.equal(rows.at(-1).Idle, (await snapshot()).network.pool.idle);
    },
    outcomes: async (rows) => {
      const told = {};
      for (const { outcome, count } of (await snapshot()).requests.upstream_by_outcome) told[outcome.replace(/_/g, ' ')] = (told[outcome.replace(/_/g, ' ')] ?? 0) + count;
      assert.deepEqual(Object.fromEntries(rows.map((row) => [row.outcome, row.Attempts])), told);
    },
  },
  alerts: {
    raised: async (rows) => assert.equal(byName(rows, 'alert').planted.Times, (await sidecar.get('api/v1/alerts/history')).history.filter((one) => one.id === 'planted' && one.event !== 'resolved').length),
  },
};

test('traffic is made', LIMIT, traffic);

for (const [name, charts] of Object.entries(CHARTS))
  test(`the charts of ${name} are drawn, and say what the API says`, LIMIT, async () => {
    const { page, wrong, close } = await openPage(browser, sidecar.page, `#/${name}?range=5m`);
    const drawn = Object.keys(charts).filter((id) => charts[id]);
    for (const id of drawn) {
      await page.locator(`#${id} [data-drawn]`).scrollIntoViewIfNeeded();
      await until(async () => (await coloursDrawn(page, id)) > 5, `something drawn in ${id}`);
    }
    assert.deepEqual((await chartsOf(page)).sort(), Object.keys(charts).sort());
    await until(async () => (await page.locator('#link').textContent()).startsWith('Live'), 'the page to be live');
    for (const id of drawn) {
      let last;
      await until(async () => {
        try {
          await charts[id]((await exported(page, id)).rows);
          return true;
        } catch (error) {
          last = error;
          return false;
        }
      }, `the numbers of ${id}`, 5).catch((error) => {
        throw last ?? error;
      });
    }
    assert.deepEqual(await page.evaluate(() => document.querySelectorAll('img').length), 0, 'text from outside was read as HTML');
    assert.deepEqual(wrong, []);
    await close();
  });

test('the drawing holds the same numbers as the table, and a live update comes by itself', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/requests?range=5m&operation=get_prompt');
  await page.locator('#requests-latency [data-drawn]').waitFor();
  const { rows } = await exported(page, 'requests-latency');
  await page.locator('#pause').click();
  const option = await drawnOption(page, 'requests-latency');
  const drawn = new Map(option.series.find((one) => one.name === 'p95').data.map((one) => one.value ?? one));
  for (const row of rows) if (row.p95 !== null) assert.equal(drawn.get(Date.parse(row.time)), row.p95, row.time);
  await page.locator('#pause').click();
  await page.locator('#operations').scrollIntoViewIfNeeded();
  const before = Number((await page.locator('#operations').evaluate((card) => card.querySelector('.drawing').chart.getOption().series[0].data[0])));
  for (let i = 0; i < 5; i++) await ask('/v1/client/prompts/prompt-1');
  await until(async () => (await page.locator('#operations').evaluate((card) => card.querySelector('.drawing').chart.getOption().series[0].data[0])) >= before + 5, 'the five requests in the chart');
  assert.equal(await page.locator('#link').textContent().then((text) => text.startsWith('Live')), true);
  assert.deepEqual(wrong, []);
  await close();
});

test('what is scrolled away or in a hidden tab costs nothing, and is up to date when it is seen again', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/requests?range=5m');
  await page.locator('#retries-time [data-drawn]').waitFor();
  await until(async () => (await page.locator('#link').textContent()).startsWith('Live'), 'the page to be live');
  await page.evaluate(() => {
    window.drawings = {};
    for (const place of document.querySelectorAll('.drawing')) {
      const { setOption } = place.chart;
      place.chart.setOption = function (...all) {
        window.drawings[place.closest('.card').id] = (window.drawings[place.closest('.card').id] ?? 0) + 1;
        return setOption.apply(this, all);
      };
    }
  });
  await until(() => page.evaluate(() => window.drawings['requests-latency'] >= 3), 'three drawings of what is seen');
  assert.equal(await page.evaluate(() => window.drawings['retries-time']), undefined);
  await page.locator('#retries-time').scrollIntoViewIfNeeded();
  await until(() => page.evaluate(() => window.drawings['retries-time'] >= 1), 'the drawing of what has come into view');
  const hide = (hidden) =>
    page.evaluate((is) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => is });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
  let asked = 0;
  page.on('request', () => asked++);
  await hide(true);
  await page.waitForLoadState('networkidle'); // half a second without a request: what was under way is over
  await page.evaluate(() => (window.drawings = {}));
  asked = 0;
  await new Promise((resolve) => setTimeout(resolve, 2500)); // longer than two refreshes: that nothing comes is what is tested
  assert.deepEqual([asked, await page.evaluate(() => window.drawings)], [0, {}]);
  await hide(false);
  await until(() => page.evaluate(() => window.drawings['retries-time'] >= 1), 'a drawing after that');
  await until(async () => (await page.locator('#link').textContent()).startsWith('Live'), 'the page to be live again');
  assert.equal(await page.getByRole('alert').count(), 0);
  assert.deepEqual(wrong, []);
  await close();
});

test('CSV, JSON and PNG, the table, the full screen, the legend', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/overview?range=5m');
  await page.locator('#latency [data-drawn]').waitFor();
  const csv = await exported(page, 'latency', 'CSV');
  assert.match(csv.bytes.toString(), /^time,p50,p95,p99\r\n\d{4}-\d\d-\d\dT/);
  assert.match(csv.name, /^latency-\d{8}T\d{6}\.csv$/);
  const png = await exported(page, 'latency', 'PNG');
  assert.deepEqual([...png.bytes.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  assert.ok(png.bytes.length > 5000);
  await page.getByRole('button', { name: 'Latency: show as a table' }).click();
  assert.ok((await page.locator('#latency tbody tr').count()) > 1);
  await page.getByRole('button', { name: 'Latency: show as a table' }).click();
  await page.locator('#latency [data-drawn]').waitFor();
  await page.locator('#latency .legend button', { hasText: 'p99' }).click();
  await until(async () => !(await drawnOption(page, 'latency')).series.some((one) => one.name === 'p99'), 'p99 to go');
  await page.getByRole('button', { name: 'Latency: full screen' }).click();
  await until(() => page.evaluate(() => document.fullscreenElement?.id === 'latency'), 'the full screen');
  assert.deepEqual(wrong, []);
  await close();
});

test('dragging zooms, the arrow keys move along, and what they find is read out', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/overview?range=5m');
  await page.locator('#throughput [data-drawn]').waitFor();
  const box = await page.locator('#throughput .drawing').boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 80);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 90, { steps: 5 });
  await page.mouse.up();
  const whole = page.getByRole('button', { name: 'Requests: show the whole range' });
  await whole.waitFor();
  await whole.click();
  await whole.waitFor({ state: 'detached' });
  await page.locator('#throughput .drawing').focus();
  await page.keyboard.press('End');
  await page.locator('#throughput .tip-title').waitFor();
  await until(async () => /Requests a second [\d.]+\/s/.test(await page.locator('#throughput [aria-live]').textContent()), 'what is read out');
  assert.deepEqual(wrong, []);
  await close();
});

test('compared with the period before: pies, bars, gauges and heat maps show it, too', LIMIT, async () => {
  const { page, wrong, close } = await openPage(browser, sidecar.page, '#/configuration');
  // The sidecar is younger than two ranges: what the API would answer later is made up here.
  await page.route('**/api/v1/metrics/parts?*', (route) => {
    const q = new URL(route.request().url()).searchParams;
    const earlier = q.get('end_time') === '-300s';
    const part = (name, count, p95 = 0.1) => ({ part: name, count, min: 0, max: 1, mean: 0.25, p50: p95 / 2, p95, p99: p95 * 2 });
    const of = { status: [part('200', earlier ? 30 : 60), part(earlier ? '404' : '503', 10)], operation: [part('get_prompt', earlier ? 40 : 80, earlier ? 0.3 : 0.1)] };
    return route.fulfill({ json: { metric_type: q.get('metric_type'), unit: '', by: q.get('by'), parts: of[q.get('by')] ?? [] } });
  });
  await page.route('**/api/v1/metrics/heatmap?*', (route) => {
    const q = new URL(route.request().url()).searchParams;
    assert.equal(q.get('start_time'), '-600s');
    const end = Date.now();
    const column = (ago, counts) => ({ time: new Date(end - ago * 1000).toISOString(), count: counts[0] + counts[1], counts });
    return route.fulfill({ json: { bounds: [0.001, 0.01, 0.1], end_time: new Date(end).toISOString(), columns: [column(500, [3, 4]), column(100, [5, 6])] } });
  });
  await page.evaluate(() => (location.hash = '#/requests?range=5m&compare=1'));
  const rows = async (id) => (await exported(page, id)).rows;
  await page.locator('#statuses [data-drawn]').scrollIntoViewIfNeeded();
  await until(async () => (await rows('statuses')).length === 3, 'statuses of both periods');
  assert.deepEqual(await rows('statuses'), [
    { status: '200', answers: 60, share: 60 / 70, 'answers before': 30, 'share before': 0.75 },
    { status: '503', answers: 10, share: 10 / 70, 'answers before': 0, 'share before': 0 },
    { status: '404', answers: 0, share: 0, 'answers before': 10, 'share before': 0.25 },
  ]);
  assert.deepEqual((await drawnOption(page, 'statuses')).series.map((one) => one.data.map((slice) => slice.value)), [[60, 10, 0], [30, 0, 10]]);
  assert.deepEqual(await rows('operation-latency'), [{ operation: 'get_prompt', p50: 0.05, p95: 0.1, 'p50 before': 0.15, 'p95 before': 0.3 }]);
  await page.locator('#operation-latency [data-drawn]').scrollIntoViewIfNeeded();
  assert.deepEqual((await drawnOption(page, 'operation-latency')).series.map((one) => one.name), ['p50', 'p50 before', 'p95', 'p95 before']);
  assert.deepEqual(await rows('operations'), [{ operation: 'get_prompt', 'Answered well': 60, Failed: 20, 'Answered well before': 30, 'Failed before': 10 }]);
  assert.deepEqual((await rows('latency-distribution')).map((row) => [row.Requests, row['Requests before']]), [[5, 3], [6, 4]]);
  assert.deepEqual((await rows('latency-heat')).map((row) => row.value), [5, 6]);
  await page.locator('#latency-heat').scrollIntoViewIfNeeded();
  await page.getByRole('button', { name: 'Latency over time: show the period before' }).click();
  await until(async () => (await drawnOption(page, 'latency-heat')).series[0].data.map((cell) => cell[2]).join() === '3,4', 'the cells of the period before');
  assert.deepEqual((await rows('latency-heat')).map((row) => row.value), [3, 4]);
  // Gauges take it from the series.
  await page.route('**/api/v1/metrics?*', (route) => {
    const q = new URL(route.request().url()).searchParams;
    const end = Date.now() - (q.get('end_time') ? 300_000 : 0);
    const value = q.get('metric_type') === 'CACHE_HIT_RATE' && q.get('end_time') ? 0.25 : 0.5;
    const point = (ago) => ({ time: new Date(end - ago).toISOString(), count: 10, min: value, max: value, mean: value, p50: value, p95: value, p99: value });
    return route.fulfill({ json: { metric_type: q.get('metric_type'), unit: '', operation: null, start_time: '', end_time: new Date(end).toISOString(), step: 1, points: [point(2000), point(1000)] } });
  });
  await page.evaluate(() => (location.hash = '#/overview?range=5m&compare=1'));
  await until(async () => (await rows('gauge-hits'))[0]?.before === 0.25, 'the gauge of the period before');
  const [now, before] = (await drawnOption(page, 'gauge-hits')).series;
  assert.equal(before.data[0].value, 0.25);
  assert.match(now.data[0].name, /, was 25/);
  assert.deepEqual(wrong, []);
  await close();
});
