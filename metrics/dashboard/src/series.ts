// Time series of the admin port. Each that is on the page is fetched once, whoever shows it, and then only its newest
// points. With `compare` there is a second one: the same range, one range earlier, moved to where this one stands.
import { effect, signal, type Signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, get, loginWanted } from './api';
import { heardAt, paused, tick } from './live';
import { RANGES, route, type RangeId } from './route';
import type { SeriesAnswer } from './types';

export type Statistic = 'count' | 'min' | 'max' | 'mean' | 'p50' | 'p95' | 'p99';
export type Point = { t: number } & Record<Statistic, number>;

export interface Series {
  unit: string;
  points: Point[];
  before: Point[]; // of the period before, with its times moved here; empty without `compare`
  from: number; // what the chart's axis spans, ms
  to: number;
  step: number; // ms
  loaded: boolean;
}

/** One run of points that is kept up to date. */
class Track {
  points: Point[] = [];
  unit = '';
  from = 0;
  to = 0;
  step = 0;
  private odd = false; // the wanted step is refused: the sidecar chooses

  constructor(
    private readonly query: string,
    private readonly range: RangeId,
    private readonly periods: 0 | 1, // how many ranges ago it ends
  ) {}

  async pull(): Promise<void> {
    const { seconds, step } = RANGES[this.range];
    const last = this.odd ? undefined : this.points[this.points.length - 2];
    const start = last ? String(last.t / 1000) : `-${seconds * (1 + this.periods)}s`;
    const end = this.periods ? `&end_time=-${seconds}s` : '';
    let answer: SeriesAnswer;
    try {
      answer = await get<SeriesAnswer>(`api/v1/metrics?${this.query}&start_time=${start}${end}${this.odd ? '' : `&step=${step}s`}`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 400 || this.odd) throw error;
      this.odd = true;
      this.points = [];
      return this.pull();
    }
    const fresh = answer.points.map(({ time, ...rest }) => ({ t: Date.parse(time), ...rest }));
    this.unit = answer.unit;
    this.step = answer.step * 1000;
    this.to = Date.parse(answer.end_time);
    this.from = this.to - seconds * 1000;
    const first = fresh[0]?.t ?? Infinity;
    this.points = [...this.points.filter((p) => p.t < first), ...fresh].filter((p) => p.t >= this.from - this.step);
  }
}

interface Kept {
  users: number;
  at: number; // when it was asked for last
  now: Track;
  before?: Track;
  series: Signal<Series>;
  busy: boolean;
}

const kept = new Map<string, Kept>();
const NOTHING: Series = { unit: '', points: [], before: [], from: 0, to: 0, step: 1000, loaded: false };

/** Seconds between two looks at a series: a point of a minute is not news each second. */
const pace = (step: number) => Math.min(15, step / 5);

async function update(k: Kept): Promise<void> {
  if (k.busy || Date.now() - k.at < (pace(k.now.step / 1000) - 0.5) * 1000) return;
  k.busy = true;
  k.at = Date.now();
  try {
    await Promise.all([k.now.pull(), k.before?.pull()]);
    const shift = k.before ? k.now.to - k.before.to : 0;
    k.series.value = {
      unit: k.now.unit,
      points: k.now.points,
      before: (k.before?.points ?? []).map((p) => ({ ...p, t: p.t + shift })),
      from: k.now.from,
      to: k.now.to,
      step: k.now.step,
      loaded: true,
    };
  } catch (error) {
    k.at = 0;
    // An operation that nobody has called since a restart has no series: that is no trouble.
    if (error instanceof ApiError && error.status >= 400 && error.status < 500) k.series.value = { ...NOTHING, loaded: true };
  } finally {
    k.busy = false;
  }
}

effect(() => {
  tick.value; // what the sidecar said is new
  if (!paused.value && !loginWanted.value && heardAt.value) for (const k of kept.values()) void update(k);
});

/**
 * The series of a metric type for the range and the comparison chosen: of one operation, where it is kept by operation,
 * or of one part of it (`phase=dns`, `state=idle`).
 */
export function useSeries(type: string, operation = '', part = ''): Series {
  const { range, compare } = route.value;
  const query = `metric_type=${type}${operation ? `&operation=${encodeURIComponent(operation)}` : ''}${part && `&${part}`}`;
  const key = `${query} ${range} ${compare}`;
  let k = kept.get(key);
  if (!k) {
    k = { users: 0, at: 0, now: new Track(query, range, 0), before: compare ? new Track(query, range, 1) : undefined, series: signal(NOTHING), busy: false };
    kept.set(key, k);
  }
  const mine = k;
  useEffect(() => {
    mine.users++;
    kept.set(key, mine);
    if (!loginWanted.value) void update(mine);
    return () => {
      if (!--mine.users) kept.delete(key);
    };
  }, [key]);
  return mine.series.value;
}

/** [time, value] pairs of one statistic, with a hole where points are missing: further apart than is usual. */
export function pairs(points: Point[], what: Statistic, step: number): [number, number | null][] {
  const gaps = points.slice(1).map((p, i) => p.t - (points[i] as Point).t).sort((a, b) => a - b);
  const usual = Math.max(step, gaps[gaps.length >> 1] ?? step);
  const out: [number, number | null][] = [];
  points.forEach((p, i) => {
    const previous = points[i - 1];
    if (previous && p.t - previous.t > usual * 2.1) out.push([previous.t + step, null]);
    out.push([p.t, p[what]]);
  });
  return out;
}

/** The mean of a statistic over a run of points, weighed by what each counts. */
export function meanOf(points: Point[], what: Statistic, weigh = true): number | null {
  let sum = 0;
  let weight = 0;
  for (const p of points) {
    const w = weigh ? p.count : 1;
    if (p[what] == null) continue;
    sum += p[what] * w;
    weight += w;
  }
  return weight ? sum / weight : null;
}
