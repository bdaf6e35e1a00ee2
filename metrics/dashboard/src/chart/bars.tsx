// Bars of named things, lying (so that long names fit) or standing, one or more a name, side by side or on one another;
// pale beside them those of the period before, when that is asked for.
import { useCallback } from 'preact/hooks';
import { bytes, byteStep, whole } from '../format';
import { RANGES, route } from '../route';
import { ChartCard, type LegendItem } from './card';
import { colors } from './colors';
import type { Cell } from './table';
import { ALONG_X, axisStyle, GRID, tipBox } from './time';
import { tooltip } from './tooltip';

export interface BarSeries {
  name: string;
  color: number;
  values: (number | null)[];
  before?: (number | null)[]; // of the period before
}

export interface BarChartProps {
  id: string;
  title: string;
  hint?: string;
  names: string[];
  /** What the axis says in place of long names. */
  ticks?: string[];
  what: string; // heading of the names
  bars: BarSeries[];
  format: (v: number | null) => string;
  empty: string;
  standing?: boolean;
  stacked?: boolean;
  height?: 'small' | 'normal' | 'tall';
  wide?: boolean;
  onPick?: (name: string) => void;
}

const BEFORE = ' before';

function short(text: string): string {
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}

export function BarChart(props: BarChartProps) {
  const { names, bars, format, standing, stacked } = props;
  const c = colors.value;
  const signature = JSON.stringify([names, bars]);
  const words = RANGES[route.value.range].words;

  const option = useCallback(
    (hidden: ReadonlySet<string>) => {
      const drawn = bars.filter((bar) => !hidden.has(bar.name));
      const category = {
        type: 'category',
        data: names,
        inverse: !standing,
        ...axisStyle(c),
        axisLabel: { ...axisStyle(c).axisLabel, formatter: (name: string, i: number) => short(props.ticks?.[i] ?? name), ...(standing ? {} : { color: c.ink, fontSize: 12 }) },
      };
      const value = { type: 'value', min: 0, splitNumber: 4, minInterval: format === whole ? 1 : undefined, interval: format === bytes ? byteStep(Math.max(0, ...bars.flatMap((bar) => [...bar.values, ...(bar.before ?? [])].map((v) => v ?? 0)))) : undefined, ...axisStyle(c), splitLine: { show: true, lineStyle: { color: c.line, opacity: 0.7 } }, axisLabel: { ...axisStyle(c).axisLabel, formatter: format } };
      return {
        ...(standing ? ALONG_X : {}),
        grid: { ...GRID, right: standing || stacked ? 20 : 56 },
        tooltip: {
          ...tipBox(c),
          trigger: 'axis',
          axisPointer: { type: 'shadow', shadowStyle: { color: c.line, opacity: 0.4 } },
          formatter: (at: unknown) => {
            const i = Number((at as { dataIndex: number }[])[0]?.dataIndex);
            return tooltip(
              names[i] ?? '',
              drawn.flatMap((bar) => [
                { color: c.series[bar.color], name: bar.name, value: format(bar.values[i] ?? null) },
                ...(bar.before ? [{ name: `${bar.name}, ${words} earlier`, value: format(bar.before[i] ?? null), soft: true }] : []),
              ]),
            );
          },
        },
        xAxis: standing ? category : value,
        yAxis: standing ? value : category,
        series: drawn.flatMap((bar) => [bar, ...(bar.before ? [{ ...bar, name: bar.name + BEFORE, values: bar.before, pale: true }] : [])]).map((bar: BarSeries & { pale?: boolean }) => ({
          type: 'bar',
          id: bar.name,
          name: bar.name,
          data: bar.values,
          stack: stacked ? (bar.pale ? 'before' : 'all') : undefined,
          barMaxWidth: standing ? 40 : 18,
          barCategoryGap: standing ? '12%' : '35%',
          cursor: props.onPick ? 'pointer' : 'default',
          itemStyle: { color: c.series[bar.color], opacity: bar.pale ? 0.4 : 1, borderRadius: stacked ? 0 : standing ? [3, 3, 0, 0] : [0, 3, 3, 0] },
          label: standing || stacked || bar.pale ? undefined : { show: true, position: 'right', color: c.soft, fontSize: 11, formatter: (at: { value: number | null }) => (at.value ? format(at.value) : '') },
          emphasis: { disabled: true },
        })),
      };
    },
    [c, format, signature, words],
  );

  const total = (bar: BarSeries) => bar.values.reduce<number>((sum, v) => sum + (v ?? 0), 0);
  const legend: LegendItem[] | undefined = bars.length > 1 ? bars.map((bar) => ({ name: bar.name, color: c.series[bar.color] as string })) : undefined;
  return (
    <ChartCard
      id={props.id}
      title={props.title}
      hint={props.hint}
      option={option}
      table={() => ({
        columns: [props.what, ...bars.map((bar) => bar.name), ...bars.filter((bar) => bar.before).map((bar) => bar.name + BEFORE)],
        rows: names.map((name, i) => [name, ...bars.map((bar): Cell => bar.values[i] ?? null), ...bars.filter((bar) => bar.before).map((bar): Cell => bar.before?.[i] ?? null)]),
        show: (cell, column) => (column ? format(cell as number | null) : String(cell)),
      })}
      summary={names
        .slice(0, 8)
        .map((name, i) => `${name}: ${bars.map((bar) => format(bar.values[i] ?? null)).join(', ')}`)
        .join('; ')}
      legend={legend}
      empty={names.length && bars.some(total) ? undefined : props.empty}
      height={props.height}
      wide={props.wide}
      along
      onPick={props.onPick && ((index) => names[index] !== undefined && props.onPick?.(names[index]))}
    />
  );
}
