// Chromium, and what tests ask of a page. A page fails its test by an error, a line on the console, a breach of the
// Content-Security-Policy, or a request to anybody but the sidecar.
import { chromium } from 'playwright-core';

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export async function startBrowser() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  try {
    return await chromium.launch({ executablePath, args: ARGS, handleSIGTERM: false, handleSIGINT: false, handleSIGHUP: false });
  } catch (error) {
    throw new Error(`Chromium cannot be started (${executablePath}; apt-get install chromium): ${error.message}`);
  }
}

export const PHONE = { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const DESKTOP = { viewport: { width: 1360, height: 860 } };

/** A page at `hash`; `wrong` gathers what must not happen, unless it matches `expected`. */
export async function openPage(browser, origin, hash = '#/overview?range=5m', { options = DESKTOP, expected } = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(30_000); // only used up by what fails: the machine may be busy
  const wrong = [];
  const add = (text) => expected?.test(text) || wrong.push(text);
  page.on('pageerror', (error) => add(error.stack ?? String(error)));
  page.on('console', (line) => ['error', 'warning'].includes(line.type()) && add(`${line.text()} ${line.location().url}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith('blob:')) wrong.push(`a request left the box: ${url}`);
  });
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  await page.goto(origin + hash);
  return { page, wrong, close: () => context.close() };
}

/** What a chart was told to draw: ECharts' own option. */
export const drawnOption = (page, id) => page.evaluate((name) => document.querySelector(`#${name} .drawing`).chart.getOption(), id);

/** The chart's JSON, as the page's own download gives it. */
export async function exported(page, id, kind = 'JSON') {
  await page.locator(`#${id} .menu > button`).click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator(`#${id} [role=menuitem]`, { hasText: kind }).click()]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  return { name: download.suggestedFilename(), bytes, rows: kind === 'JSON' ? JSON.parse(bytes.toString()) : null };
}

/** How many different colours a chart's canvas has: 1 is an empty one. */
export const coloursDrawn = (page, id) =>
  page.evaluate((name) => {
    const canvas = document.querySelector(`#${name} .drawing canvas`);
    if (!canvas) return 0;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) seen.add((data[i] << 24) | (data[i + 1] << 16) | (data[i + 2] << 8) | data[i + 3]);
    return seen.size;
  }, id);

/** The ids of all cards with a chart, drawn or empty. */
export const chartsOf = (page) => page.evaluate(() => [...document.querySelectorAll('.card.chart')].map((card) => card.id));
