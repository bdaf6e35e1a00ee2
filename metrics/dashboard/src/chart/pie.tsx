// Shares of a whole, with the whole in the middle.
import { useCallback } from 'preact/hooks';
import { percent, whole } from '../format';
import { ChartCard } from './card';
import { colors } from './colors';
import { tipBox } from './time';
import { tooltip } from './tooltip';

export interface Slice {
  name: string;
  value: number;
  color: number;
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
  const option = useCallback(
    (hidden: ReadonlySet<string>) => {
      const drawn = slices.filter((slice) => !hidden.has(slice.name));
      const shown = drawn.reduce((sum, slice) => sum + slice.value, 0);
      return {
        tooltip: {
          ...tipBox(c),
          trigger: 'item',
          formatter: (at: unknown) => {
            const { name, value, color } = at as { name: string; value: number; color: string };
            return tooltip(name, [{ color, name: of, value: `${format(value)} (${percent(shown ? value / shown : null)})` }]);
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
            data: drawn.map((slice, i) => ({ name: slice.name, value: slice.value, label: { show: i === 0 }, emphasis: { label: { show: i === 0 } }, itemStyle: { color: c.series[slice.color % c.series.length] } })),
          },
        ],
      };
    },
    [c, signature, of],
  );
  return (
    <ChartCard
      id={id}
      title={title}
      hint={hint}
      option={option}
      table={() => ({ columns: [what, of, 'share'], rows: slices.map((slice) => [slice.name, slice.value, total ? slice.value / total : null]), show: (cell, column) => (column === 0 ? String(cell) : column === 1 ? format(cell as number) : percent(cell as number | null)) })}
      summary={`${format(total)} ${of}: ${slices.map((slice) => `${slice.name} ${percent(total ? slice.value / total : null)}`).join(', ')}.`}
      legend={slices.map((slice) => ({ name: slice.name, color: c.series[slice.color % c.series.length] as string, value: percent(total ? slice.value / total : null) }))}
      empty={total ? undefined : empty}
      along
    />
  );
}
