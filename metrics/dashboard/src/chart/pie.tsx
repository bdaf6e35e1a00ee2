// Shares of a whole, with the whole in the middle; inside it, thin, those of the period before when that is asked for.
import { useCallback } from 'preact/hooks';
import { percent, whole } from '../format';
import { RANGES, route } from '../route';
import { ChartCard } from './card';
import { colors } from './colors';
import { tipBox } from './time';
import { tooltip } from './tooltip';

export interface Slice {
  name: string;
  value: number;
  color: number;
  before?: number | null; // of the period before
}

export interface PieChartProps {
  id: string;
  title: string;
  hint?: string;
  slices: Slice[];
  of: string; // what is counted
  what: string;
  format?: (v: number | null) => string;
  empty: string;
}

export function PieChart({ id, title, hint, slices, of, what, empty, format = whole }: PieChartProps) {
  const c = colors.value;
  const signature = JSON.stringify(slices);
  const total = slices.reduce((sum, slice) => sum + slice.value, 0);
  const compared = slices.some((slice) => slice.before !== undefined);
  const totalBefore = slices.reduce((sum, slice) => sum + (slice.before ?? 0), 0);
  const words = RANGES[route.value.range].words;
  const option = useCallback(
    (hidden: ReadonlySet<string>) => {
      const drawn = slices.filter((slice) => !hidden.has(slice.name));
      const shown = drawn.reduce((sum, slice) => sum + slice.value, 0);
      const shownBefore = drawn.reduce((sum, slice) => sum + (slice.before ?? 0), 0);
      const fill = (slice: Slice) => c.series[slice.color % c.series.length];
      return {
        tooltip: {
          ...tipBox(c),
          trigger: 'item',
          formatter: (at: unknown) => {
            const { name, color } = at as { name: string; color: string };
            const slice = drawn.find((one) => one.name === name);
            if (!slice) return tooltip(name, []);
            const said = (value: number, whole: number) => `${format(value)} (${percent(whole ? value / whole : null)})`;
            return tooltip(name, [
              { color, name: of, value: said(slice.value, shown) },
              ...(compared ? [{ name: `${of}, ${words} earlier`, value: said(slice.before ?? 0, shownBefore), soft: true }] : []),
            ]);
          },
        },
        series: [
          {
            type: 'pie',
            id: 'pie',
            radius: ['58%', '86%'],
            center: ['50%', '50%'],
            padAngle: drawn.length > 1 ? 1.5 : 0,
            itemStyle: { borderRadius: 4 },
            label: { show: true, position: 'center', formatter: () => `{n|${format(shown)}}\n{o|${of}}`, rich: { n: { color: c.ink, fontSize: 24, fontWeight: 600, lineHeight: 32 }, o: { color: c.soft, fontSize: 12 } } },
            emphasis: { scaleSize: 3 },
            // The label in the middle is drawn once, not by each slice.
            data: drawn.map((slice, i) => ({ name: slice.name, value: slice.value, label: { show: i === 0 }, emphasis: { label: { show: i === 0 } }, itemStyle: { color: fill(slice) } })),
          },
          ...(compared && shownBefore
            ? [
                {
                  type: 'pie',
                  id: 'before',
                  radius: ['49%', '54%'],
                  center: ['50%', '50%'],
                  padAngle: drawn.length > 1 ? 1.5 : 0,
                  label: { show: false },
                  emphasis: { scale: false },
                  data: drawn.map((slice) => ({ name: slice.name, value: slice.before ?? 0, itemStyle: { color: fill(slice), opacity: 0.55 } })),
                },
              ]
            : []),
        ],
      };
    },
    [c, signature, of, words, compared],
  );
  return (
    <ChartCard
      id={id}
      title={title}
      hint={hint}
      option={option}
      table={() => ({
        columns: [what, of, 'share', ...(compared ? [`${of} before`, 'share before'] : [])],
        rows: slices.map((slice) => [slice.name, slice.value, total ? slice.value / total : null, ...(compared ? [slice.before ?? 0, totalBefore ? (slice.before ?? 0) / totalBefore : null] : [])]),
        show: (cell, column) => (column === 0 ? String(cell) : column % 2 ? format(cell as number) : percent(cell as number | null)),
      })}
      summary={`${format(total)} ${of}: ${slices.map((slice) => `${slice.name} ${percent(total ? slice.value / total : null)}`).join(', ')}.`}
      legend={slices.map((slice) => ({ name: slice.name, color: c.series[slice.color % c.series.length] as string, value: percent(total ? slice.value / total : null) }))}
      empty={total ? undefined : empty}
      along
    />
  );
}
