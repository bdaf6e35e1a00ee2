// When each circuit breaker was open or half open, over the range: a lane a breaker.
import { useCallback, useMemo } from 'preact/hooks';
import * as show from '../format';
import { live, now } from '../live';
import { RANGES, route } from '../route';
import type { CircuitChange } from '../types';
import { ChartCard } from './card';
import { colors } from './colors';
import { axisStyle, GRID, tipBox } from './time';
import { tooltip } from './tooltip';

interface Stretch {
  name: string;
  state: string;
  cause: string | null;
  from: number;
  to: number;
}

/** The stretches of one state each, oldest first; before its first change a breaker was as that says. */
function stretches(name: string, state: string, changes: CircuitChange[], from: number, to: number): Stretch[] {
  const mine = changes.filter((one) => one.name === name).sort((a, b) => Date.parse(a.time) - Date.parse(b.time));
  const out: Stretch[] = [];
  let at = from;
  let is = mine[0]?.from ?? state;
  let cause: string | null = null;
  for (const one of mine) {
    const t = Math.min(to, Math.max(from, Date.parse(one.time)));
    if (t > at) out.push({ name, state: is, cause, from: at, to: t });
    at = t;
    is = one.to;
    cause = one.cause;
  }
  if (to > at) out.push({ name, state: is, cause, from: at, to });
  return out;
}

export function BreakerTimeline() {
  const c = colors.value;
  const { seconds, words } = RANGES[route.value.range];
  const network = live.value.network;
  const to = Math.floor((Date.parse(live.value.time ?? '') || now.peek()) / 1000) * 1000;
  const from = to - seconds * 1000;
  const names = Object.keys(network?.circuit ?? {}).slice(0, 16);
  const changes = network?.circuit_history?.changes ?? [];
  const all = useMemo(() => names.map((name) => stretches(name, network?.circuit?.[name]?.state ?? 'closed', changes, from, to)), [network, from, to]);
  const colorOf = (state: string) => (state === 'closed' ? c.good : state === 'open' ? c.bad : c.warn);
  const option = useCallback(() => {
    const depth = Math.max(0, ...all.map((lane) => lane.length));
    return {
      grid: { ...GRID, right: 24 },
      tooltip: {
        ...tipBox(c),
        trigger: 'item',
        formatter: (at: unknown) => {
          const { stretch } = (at as { data: { stretch: Stretch } }).data;
          return tooltip(stretch.name, [
            { color: colorOf(stretch.state), name: stretch.state, value: show.duration((stretch.to - stretch.from) / 1000) },
            { name: 'from', value: show.dayTime(stretch.from), soft: true },
            ...(stretch.cause ? [{ name: 'cause', value: stretch.cause, soft: true }] : []),
          ]);
        },
      },
      xAxis: { type: 'value', min: 0, max: to - from, ...axisStyle(c), axisLabel: { ...axisStyle(c).axisLabel, formatter: (v: number) => show.shortTime(from + v) }, interval: (to - from) / 5 },
      yAxis: { type: 'category', data: names, inverse: true, ...axisStyle(c), axisLabel: { ...axisStyle(c).axisLabel, color: c.ink, fontSize: 12 } },
      series: Array.from({ length: depth }, (_, i) => ({
        type: 'bar',
        id: `stretch-${i}`,
        stack: 'all',
        barWidth: 12,
        data: all.map((lane) => {
          const stretch = lane[i];
          return stretch ? { value: stretch.to - stretch.from, stretch, itemStyle: { color: colorOf(stretch.state), opacity: stretch.state === 'closed' ? 0.35 : 1 } } : { value: 0, stretch: { name: '', state: 'closed', cause: null, from, to } };
        }),
      })),
    };
  }, [c, all, from, to]);
  const opened = changes.filter((one) => one.to === 'open' && Date.parse(one.time) >= from).length;
  return (
    <ChartCard
      id="breakers"
      title="Breakers over time"
      hint="Closed, half open, open"
      wide
      option={option}
      table={() => ({
        columns: ['breaker', 'state', 'from', 'to', 'cause'],
        rows: all.flat().map((s) => [s.name, s.state, new Date(s.from).toISOString(), new Date(s.to).toISOString(), s.cause]),
        show: (cell, column) => (cell === null ? '–' : column === 2 || column === 3 ? show.dayTime(Date.parse(String(cell))) : String(cell)),
      })}
      summary={`${opened} openings in the last ${words}.`}
      empty={names.length ? undefined : 'No circuit breaker is on: see circuit_breaker.enable_circuit_breaker.'}
      height={names.length > 8 ? 'tall' : 'normal'}
    >
      <ul class="legend plain">
        {[
          ['closed', 'closed: requests pass'],
          ['half-open', 'half open: a few try'],
          ['open', 'open: answered from the cache, or 503'],
        ].map(([state, text]) => (
          <li>
            <svg class="swatch" width="14" height="10" aria-hidden="true">
              <rect width="14" height="10" rx="3" fill={colorOf(state as string)} opacity={state === 'closed' ? 0.35 : 1} />
            </svg>
            {text}
          </li>
        ))}
      </ul>
    </ChartCard>
  );
}
