// A metric over the range, apart by something (status, cache, outcome, phase, operation ...): for pies and bars. With
// `compare` the same of the period before.
import { useMemo } from 'preact/hooks';
import { useFetch } from './fetch';
import { RANGES, route } from './route';
import type { Slice } from './chart/pie';
import type { Part, PartsAnswer } from './types';

type Figure = 'count' | 'mean' | 'p50' | 'p95' | 'p99';

export interface Parts {
  parts: Part[];
  /** By name; undefined when no comparison is asked for. */
  before?: Map<string, Part>;
}

/** The parts of the range; all operations together. */
export function useParts(type: string, by: string): Parts {
  const { range, compare } = route.value;
  const { seconds, step } = RANGES[range];
  const query = `api/v1/metrics/parts?metric_type=${type}&by=${by}&step=${step}s`;
  const pace = Math.max(2, Math.min(15, step / 5));
  const now = useFetch<PartsAnswer>(`${query}&start_time=-${seconds}s`, pace).data;
  const then = useFetch<PartsAnswer>(compare ? `${query}&start_time=-${2 * seconds}s&end_time=-${seconds}s` : '', pace).data;
  return useMemo(() => ({ parts: now?.parts ?? [], before: compare ? new Map((then?.parts ?? []).map((part) => [part.part, part])) : undefined }), [now, then, compare]);
}

/** One statistic of named parts of the period before, in the names' order; undefined when none is asked for. */
export function earlier(parts: Parts, names: string[], what: Figure): (number | null)[] | undefined {
  const { before } = parts;
  return before && names.map((name) => before.get(name)?.[what] ?? null);
}

/** The same of the range itself. */
export function valuesOf(parts: Part[], names: string[], what: Figure): (number | null)[] {
  const named = new Map(parts.map((part) => [part.part, part]));
  return names.map((name) => named.get(name)?.[what] ?? null);
}

/** A pie's slices, those of the period before among them; `look` names and colours one. */
export function slicesOf(parts: Parts, look: (part: string, i: number) => { name: string; color: number }, what: Figure = 'count'): Slice[] {
  const names = parts.parts.map((part) => part.part);
  for (const name of parts.before?.keys() ?? []) if (!names.includes(name)) names.push(name);
  const now = valuesOf(parts.parts, names, what);
  const before = earlier(parts, names, what);
  return names.map((name, i) => ({ ...look(name, i), value: now[i] ?? 0, ...(before ? { before: before[i] ?? 0 } : {}) }));
}
