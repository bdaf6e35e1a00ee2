// What the address says: the page, the range and the filters, all behind the `#`, so that a link shows the same to
// somebody else and works under any path.
import { signal } from '@preact/signals';

export const PAGES = ['overview', 'requests', 'cache', 'network', 'alerts', 'recommendations', 'configuration'] as const;
export type Page = (typeof PAGES)[number];

/** The ranges to choose from: seconds shown, and seconds a point, as finely as history keeps them for that long. */
export const RANGES = {
  '5m': { seconds: 300, step: 1, words: '5 minutes' },
  '15m': { seconds: 900, step: 10, words: '15 minutes' },
  '1h': { seconds: 3600, step: 10, words: 'hour' },
  '3h': { seconds: 10800, step: 60, words: '3 hours' },
  '6h': { seconds: 21600, step: 60, words: '6 hours' },
  '12h': { seconds: 43200, step: 60, words: '12 hours' },
  '24h': { seconds: 86400, step: 600, words: '24 hours' },
} as const;
export type RangeId = keyof typeof RANGES;

export interface Route {
  page: Page;
  range: RangeId;
  compare: boolean;
  operation: string; // '' = all
  filters: Record<string, string>; // what a page has besides
}

const KNOWN = new Set(['range', 'compare', 'operation']);

function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const q = new URLSearchParams(query);
  const range = q.get('range') ?? '';
  const filters: Record<string, string> = {};
  for (const [name, value] of q) if (!KNOWN.has(name)) filters[name] = value;
  return {
    page: PAGES.find((page) => page === path) ?? 'overview',
    range: range in RANGES ? (range as RangeId) : '15m',
    compare: q.get('compare') === '1',
    operation: q.get('operation') ?? '',
    filters,
  };
}

export function format(to: Route): string {
  const q = new URLSearchParams();
  q.set('range', to.range);
  if (to.compare) q.set('compare', '1');
  if (to.operation) q.set('operation', to.operation);
  for (const [name, value] of Object.entries(to.filters)) if (value) q.set(name, value);
  return `#/${to.page}?${q}`;
}

export const route = signal<Route>(parse(location.hash));

/** Changes the address; a change of page can be gone back from, one of a filter replaces. */
export function go(patch: Partial<Route>): void {
  const next = { ...route.value, ...patch };
  if (patch.page && patch.page !== route.value.page && !patch.filters) next.filters = {};
  const hash = format(next);
  if (next.page === route.value.page) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
  route.value = next;
}

export function setFilter(name: string, value: string): void {
  go({ filters: { ...route.value.filters, [name]: value } });
}

function follow(): void {
  route.value = parse(location.hash);
}
addEventListener('hashchange', follow);
addEventListener('popstate', follow);
