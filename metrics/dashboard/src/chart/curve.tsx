// A value over another (not over time), with what is in force marked.
import { useCallback } from 'preact/hooks';
import { ChartCard } from './card';
import { colors } from './colors';
import { ALONG_X, axisStyle, GRID, tipBox } from './time';
import { tooltip } from './tooltip';

export interface CurveProps {
  id: string;
  title: string;
  hint?: string;
  points: [number, number][];
  x: { name: string; format: (v: number | null) => string };
  y: { name: string; format: (v: number | null) => string; max?: number };
  mark?: { x: number; name: string };
  empty: string;
  wide?: boolean;
}

export function CurveChart({ id, title, hint, points, x, y, mark, empty, wide }: CurveProps) {
  const c = colors.value;
  const signature = JSON.stringify([points, mark]);
  const option = useCallback(
    () => ({
      ...ALONG_X,
      grid: { ...GRID, top: 24, right: 28 },
      tooltip: {
        ...tipBox(c),
        trigger: 'axis',
        formatter: (at: unknown) => {
          const [px, py] = (at as { value: [number, number] }[])[0]?.value ?? [0, 0];
          return tooltip(`${x.name} ${x.format(px)}`, [{ color: c.series[0], name: y.name, value: y.format(py) }]);
        },
      },
      xAxis: { type: 'log', logBase: 2, min: points[0]?.[0], max: points[points.length - 1]?.[0], ...axisStyle(c), axisLabel: { ...axisStyle(c).axisLabel, formatter: x.format } },
      yAxis: { type: 'value', min: 0, max: y.max, interval: y.max === 1 ? 0.25 : undefined, ...axisStyle(c), splitLine: { show: true, lineStyle: { color: c.line, opacity: 0.7 } }, axisLabel: { ...axisStyle(c).axisLabel, formatter: y.format } },
      series: [
        {
          type: 'line',
          id: 'curve',
          name: y.name,
          data: points,
          symbol: 'circle',
          symbolSize: 6,
          itemStyle: { color: c.series[0] },
          lineStyle: { width: 2, color: c.series[0] },
          areaStyle: { color: `${c.series[0]}18` },
          markLine: mark && { silent: true, symbol: 'none', lineStyle: { color: c.series[1], width: 1.5, type: 'dashed' }, label: { formatter: mark.name, color: c.series[1], fontWeight: 600 }, data: [{ xAxis: mark.x }] },
        },
      ],
    }),
    [c, signature],
  );
  return (
    <ChartCard
      id={id}
      title={title}
      hint={hint}
      option={option}
      table={() => ({ columns: [x.name, y.name], rows: points, show: (cell, column) => (column ? y.format(cell as number) : x.format(cell as number)) })}
      summary={points.map(([px, py]) => `${x.format(px)}: ${y.format(py)}`).join(', ')}
      empty={points.length ? undefined : empty}
      wide={wide}
      along
    />
  );
}
