// One number between its ends, coloured by how good it is; words say the same as the colour.
import { useCallback } from 'preact/hooks';
import { ChartCard } from './card';
import { colors } from './colors';

export interface GaugeProps {
  id: string;
  title: string;
  hint?: string;
  value: number | null;
  max?: number;
  format: (v: number | null) => string;
  /** What the value is worth. */
  judge: (v: number) => { mood: 'good' | 'warn' | 'bad'; word: string };
  empty: string;
}

export function GaugeChart({ id, title, hint, value, max = 1, format, judge, empty }: GaugeProps) {
  const c = colors.value;
  const verdict = value === null ? null : judge(value);
  const text = format(value);
  const option = useCallback(
    () => ({
      series: [
        {
          type: 'gauge',
          id: 'gauge',
          startAngle: 205,
          endAngle: -25,
          min: 0,
          max,
          radius: '98%',
          center: ['50%', '60%'],
          progress: { show: !!value, width: 12, roundCap: true, itemStyle: { color: verdict ? c[verdict.mood] : c.soft } },
          axisLine: { roundCap: true, lineStyle: { width: 12, color: [[1, c.line]] } },
          axisTick: { show: false },
          splitLine: { show: false },
          axisLabel: { show: false },
          pointer: { show: false },
          anchor: { show: false },
          silent: true,
          title: { offsetCenter: [0, '26%'], color: c.soft, fontSize: 12 },
          detail: { offsetCenter: [0, '-8%'], color: c.ink, fontSize: 26, fontWeight: 600, formatter: () => text },
          data: [{ value: Math.min(value ?? 0, max), name: verdict?.word ?? '' }],
        },
      ],
    }),
    [c, value, max, text, verdict?.mood, verdict?.word],
  );
  return (
    <ChartCard
      id={id}
      title={title}
      hint={hint}
      option={option}
      table={() => ({ columns: ['name', 'value'], rows: [[title, value]], show: (cell, column) => (column ? format(cell as number | null) : String(cell)) })}
      summary={`${text}${verdict ? `, ${verdict.word}` : ''}.`}
      empty={value === null ? empty : undefined}
      height="small"
    />
  );
}
