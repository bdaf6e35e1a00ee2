// One number between its ends, coloured by how good it is; words say the same as the colour. A thin line inside is the
// period before, when that is asked for.
import { useCallback } from 'preact/hooks';
import { ChartCard } from './card';
import { RANGES, route } from '../route';
import { colors } from './colors';
import { tipBox } from './time';
import { tooltip } from './tooltip';

export interface GaugeProps {
  id: string;
  title: string;
  hint?: string;
  value: number | null;
  before?: number | null; // of the period before; undefined when none is asked for
  max?: number;
  format: (v: number | null) => string;
  /** What the value is worth. */
  judge: (v: number) => { mood: 'good' | 'warn' | 'bad'; word: string };
  empty: string;
}

export function GaugeChart({ id, title, hint, value, before, max = 1, format, judge, empty }: GaugeProps) {
  const c = colors.value;
  const verdict = value === null ? null : judge(value);
  const text = format(value);
  const words = RANGES[route.value.range].words;
  const option = useCallback(
    () => ({
      tooltip: {
        ...tipBox(c),
        trigger: 'item',
        formatter: () =>
          tooltip(title, [
            { color: verdict ? c[verdict.mood] : c.soft, name: verdict?.word ?? 'now', value: text },
            ...(before === undefined ? [] : [{ name: `${words} earlier`, value: format(before), soft: true }]),
          ]),
      },
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
          title: { offsetCenter: [0, '26%'], color: c.soft, fontSize: 12 },
          detail: { offsetCenter: [0, '-8%'], color: c.ink, fontSize: 26, fontWeight: 600, formatter: () => text },
          data: [{ value: Math.min(value ?? 0, max), name: (verdict?.word ?? '') + (before == null ? '' : `, was ${format(before)}`) }],
        },
        ...(before == null
          ? []
          : [
              {
                type: 'gauge',
                id: 'before',
                startAngle: 205,
                endAngle: -25,
                min: 0,
                max,
                radius: '80%',
                center: ['50%', '60%'],
                progress: { show: before > 0, width: 3, roundCap: true, itemStyle: { color: c.soft } },
                axisLine: { roundCap: true, lineStyle: { width: 3, color: [[1, 'transparent']] } },
                axisTick: { show: false },
                splitLine: { show: false },
                axisLabel: { show: false },
                pointer: { show: false },
                anchor: { show: false },
                title: { show: false },
                detail: { show: false },
                data: [{ value: Math.min(before, max) }],
              },
            ]),
      ],
    }),
    [c, title, value, before, max, text, words, format, verdict?.mood, verdict?.word],
  );
  return (
    <ChartCard
      id={id}
      title={title}
      hint={hint}
      option={option}
      table={() => ({ columns: ['name', 'value', ...(before === undefined ? [] : ['before'])], rows: [[title, value, ...(before === undefined ? [] : [before])]], show: (cell, column) => (column ? format(cell as number | null) : String(cell)) })}
      summary={`${text}${verdict ? `, ${verdict.word}` : ''}${before == null ? '' : `; ${format(before)} in the period before`}.`}
      empty={value === null ? empty : undefined}
      height="small"
    />
  );
}
