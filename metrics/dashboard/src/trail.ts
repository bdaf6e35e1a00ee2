// The course of numbers that the sidecar keeps no history of (places in the pool, the concurrency limit, quotas), as
// heard since this page was opened.
import { effect, signal } from '@preact/signals';
import { live, tick } from './live';
import { RANGES, route } from './route';
import type { Point, Series } from './series';
import type { Snapshot } from './types';

const MOST = 3600;
const trail = signal<{ t: number; values: Record<string, number> }[]>([]);

function numbers(s: Partial<Snapshot>): Record<string, number> {
  const out: Record<string, number> = {};
  const { pool, rate_limits, circuit } = s.network ?? {};
  if (pool) Object.assign(out, { idle: pool.idle, active: pool.active, connecting: pool.connecting, waiting: pool.waiting });
  const limit = rate_limits?.concurrency;
  if (limit) Object.assign(out, { limit: limit.limit, in_flight: limit.in_flight });
  for (const key of rate_limits?.keys ?? []) for (const w of key.windows) out[`quota ${key.key} ${w.window}`] = w.limit ? w.remaining / w.limit : 0;
  const budget = circuit?.upstream?.retry_budget;
  if (budget !== undefined) out.budget = budget;
  return out;
}

effect(() => {
  if (!tick.value) return;
  const now = live.peek();
  const t = Date.parse(now.time ?? '') || Date.now();
  const old = trail.peek();
  const last = old[old.length - 1];
  if (last && last.t >= t) return;
  trail.value = [...old.slice(-MOST + 1), { t, values: numbers(now) }];
});

/** A number's course as a series for a chart. */
export function useTrail(name: string): Series {
  const to = trail.value[trail.value.length - 1]?.t ?? 0;
  const from = to - RANGES[route.value.range].seconds * 1000;
  const points: Point[] = trail.value
    .filter((one) => one.t >= from && one.values[name] !== undefined)
    .map(({ t, values }) => {
      const v = values[name] as number;
      return { t, count: 1, min: v, max: v, mean: v, p50: v, p95: v, p99: v };
    });
  return { unit: '', points, before: [], from, to, step: 60_000, loaded: true };
}
