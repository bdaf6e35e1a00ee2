// A heat map: columns in time, rows of what, the count as depth of colour. Nothing is drawn where there was nothing. When a
// comparison is asked for, a button shows the period before in its place, in the same colours.
import { useCallback, useMemo, useState } from 'preact/hooks';
import * as show from '../format';
import { ChartCard } from './card';
import { colors } from './colors';
import { ALONG_X, axisStyle, GRID, tipBox } from './time';
import { RANGES, route } from '../route';
import { Icon } from '../ui/icon';
import { tooltip } from './tooltip';

export type HeatCell = [time: number, row: number, value: number];

export interface HeatMapProps {
  id: string;
  title: string;
  hint?: string;
  times: number[];
  rows: string[];
  /** What the axis says in place of long rows. */
  ticks?: string[];
  what: string; // heading of the rows
  cells: HeatCell[]; // time's index, row's index, value
  /** The period before, with the same rows. */
  before?: { times: number[]; cells: HeatCell[] };
  format: (v: number | null) => string;
  empty: string;
  wide?: boolean;
  height?: 'small' | 'normal' | 'tall';
}

/** Steps between labels of time, seconds. */
const STEPS = [5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600];

/** Labels at round times: that of a column in which one begins, '' for all others. */
function timeLabels(times: number[], most: number): string[] {
  const span = ((times[times.length - 1] ?? 0) - (times[0] ?? 0)) / 1000;
  const step = (STEPS.find((one) => span / one <= most) ?? 43200) * 1000;
  const zone = -new Date(times[0] ?? 0).getTimezoneOffset() * 60_000;
  const number = (t: number) => Math.floor((t + zone) / step);
  return times.map((t, i) => {
    const begins = number(t) * step === t + zone || (i > 0 && number(t) !== number(times[i - 1] as number));
    return begins ? (step < 60_000 ? show.time : show.shortTime)(number(t) * step - zone) : '';
  });
}

export function HeatMap(props: HeatMapProps) {
  const { rows, format } = props;
  const [back, setBack] = useState(false);
  const earlier = !!props.before && back;
  const { times, cells } = earlier && props.before ? props.before : props;
  const c = colors.value;
  const words = RANGES[route.value.range].words;
  const most = [...props.cells, ...(props.before?.cells ?? [])].reduce((max, cell) => Math.max(max, cell[2]), 0);
  const labels = useMemo(() => timeLabels(times, innerWidth < 600 ? 3 : 5), [times]);
  const option = useCallback(
    () => ({
      ...ALONG_X,
      grid: { ...GRID, bottom: 44 },
      tooltip: {
        ...tipBox(c),
        trigger: 'item',
        formatter: (at: unknown) => {
          const [x, y, v] = (at as { value: [number, number, number] }).value;
          return tooltip(`${show.dayTime(times[x] ?? 0)}, ${rows[y] ?? ''}`, [{ name: props.what, value: format(v) }]);
        },
      },
      xAxis: { type: 'category', data: times.map(String), ...axisStyle(c), axisLabel: { ...axisStyle(c).axisLabel, interval: (i: number) => !!labels[i], formatter: (_: string, i: number) => labels[i] } },
      yAxis: { type: 'category', data: rows, ...axisStyle(c), axisLabel: { ...axisStyle(c).axisLabel, formatter: (row: string, i: number) => props.ticks?.[i] ?? row } },
      visualMap: {
        type: 'continuous',
        min: 0,
        max: most || 1,
        calculable: false,
        orient: 'horizontal',
        right: 10,
        bottom: 0,
        itemWidth: 10,
        itemHeight: 110,
        text: [format(most), '0'],
        textStyle: { color: c.soft, fontSize: 11 },
        inRange: { color: c.heat },
      },
      series: [{ type: 'heatmap', id: 'heat', data: cells, progressive: 0, itemStyle: { borderColor: c.surface, borderWidth: times.length > 120 ? 0 : 1, borderRadius: 2 }, emphasis: { itemStyle: { borderColor: c.ink, borderWidth: 1 } } }],
    }),
    [c, format, times, labels, rows, cells, most, props.ticks],
  );
  const hottest = cells.reduce<[number, number, number] | null>((best, cell) => (!best || cell[2] > best[2] ? cell : best), null);
  return (
    <ChartCard
      id={props.id}
      title={props.title}
      hint={earlier ? `The ${words} before` : props.hint}
      option={option}
      table={() => ({
        columns: ['time', props.what, 'value'],
        rows: cells.map(([x, y, v]) => [new Date(times[x] ?? 0).toISOString(), rows[y] ?? '', v]),
        show: (cell, column) => (column === 0 ? show.dayTime(Date.parse(String(cell))) : column === 1 ? String(cell) : format(cell as number)),
      })}
      summary={hottest ? `Most: ${format(hottest[2])}, ${rows[hottest[1]]} at ${show.dayTime(times[hottest[0]] ?? 0)}.` : ''}
      empty={props.cells.length || props.before?.cells.length ? undefined : props.empty}
      height={props.height ?? 'normal'}
      wide={props.wide}
      tools={
        props.before && (
          <button type="button" title="Show the period before" aria-label={`${props.title}: show the period before`} aria-pressed={earlier} onClick={() => setBack(!back)}>
            <Icon name="undo" />
          </button>
        )
      }
      along
    />
  );
}
