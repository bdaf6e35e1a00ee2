// Which operations are asked for when: a row for each, out of the throughput that the sidecar keeps for it.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { get } from '../api';
import type { HeatCell } from '../chart/heat';
import { live, tick } from '../live';
import { RANGES, route } from '../route';
import type { SeriesAnswer } from '../types';

const MOST = 10;
const COLUMNS = 60;

export interface Access {
  times: number[];
  rows: string[];
  cells: HeatCell[];
  before?: { times: number[]; cells: HeatCell[] };
}

async function read(operations: string[], seconds: number, step: number, periods: 0 | 1): Promise<Access> {
  const end = periods ? `&end_time=-${seconds}s` : '';
  const answers = await Promise.all(
    operations.map((name) => get<SeriesAnswer>(`api/v1/metrics?metric_type=THROUGHPUT&operation=${encodeURIComponent(name)}&start_time=-${seconds * (1 + periods)}s${end}&step=${step}s`).catch(() => undefined)),
  );
  const times = [...new Set(answers.flatMap((answer) => answer?.points.map((p) => Date.parse(p.time)) ?? []))].sort((a, b) => a - b);
  const index = new Map(times.map((t, i) => [t, i]));
  const cells = answers.flatMap((answer, y) => (answer?.points ?? []).filter((p) => p.mean > 0).map((p): HeatCell => [index.get(Date.parse(p.time)) ?? 0, y, p.mean]));
  return { times, rows: operations, cells };
}

/** The ten operations that are asked for most. */
export function useAccess(): Access {
  const [access, setAccess] = useState<Access>({ times: [], rows: [], cells: [] });
  const { range, compare } = route.value;
  const { seconds, step } = RANGES[range];
  const wide = Math.ceil(seconds / COLUMNS / step) * step;
  const list = live.value.requests?.by_operation;
  const names = useMemo(
    () =>
      [...(list ?? [])]
        .sort((a, b) => b.requests - a.requests)
        .slice(0, MOST)
        .map((one) => one.operation)
        .sort()
        .join('\n'),
    [list],
  );
  const beat = Math.floor((tick.value || 1) / Math.max(1, wide / 5));
  useEffect(() => {
    if (!names) return;
    let gone = false;
    const list = names.split('\n');
    void Promise.all([read(list, seconds, wide, 0), compare ? read(list, seconds, wide, 1) : undefined]).then(([found, before]) => gone || setAccess({ ...found, before }));
    return () => void (gone = true);
  }, [names, seconds, wide, compare, beat]);
  return access;
}
