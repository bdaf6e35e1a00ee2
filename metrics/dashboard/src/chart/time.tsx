// Lines over the chosen range, with the period before as a dashed shadow when that is asked for.
import { useCallback, useMemo } from 'preact/hooks';
import * as show from '../format';
import { RANGES, route, setFilter } from '../route';
import { pairs, type Point, type Series, type Statistic } from '../series';
import { Icon } from '../ui/icon';
import { ChartCard, type LegendItem } from './card';
import { colors, type Colors } from './colors';
import { tooltip, type TipRow } from './tooltip';

export interface Line {
  name: string;
  series: Series;
  what: Statistic;
  color: number; // of the palette
  area?: boolean;
  quiet?: boolean; // behind the others
}

export interface TimeChartProps {
  id: string;
  title: string;
  hint?: string;
  lines: Line[];
  format: (v: number | null) => string;
  empty: string; // what to do for there to be something
  max?: number;
  height?: 'small' | 'normal' | 'tall';
  wide?: boolean;
  /** Whether its values may be shown on a logarithmic axis. */
  spread?: boolean;
}

const BEFORE = ' before';

/** A point without neighbours would be drawn as nothing: it gets a dot. */
function withDots(data: [number, number | null][]): unknown[] {
  return data.map((point, i) => {
    const alone = point[1] !== null && (data[i - 1]?.[1] ?? null) === null && (data[i + 1]?.[1] ?? null) === null;
    return alone ? { value: point, symbol: 'circle', symbolSize: 5 } : point;
  });
}

function lineSeries(line: Line, c: Colors, log: boolean): unknown[] {
  const color = c.series[line.color % c.series.length] as string;
  const common = { type: 'line', symbol: 'none', showSymbol: true, sampling: 'lttb', emphasis: { disabled: true }, triggerLineEvent: false };
  const read = (points: Point[]) => pairs(points, line.what, line.series.step).map(([t, v]): [number, number | null] => [t, log && !(v && v > 0) ? null : v]);
  const data = read(line.series.points);
  const out: unknown[] = [
    {
      ...common,
      id: line.name,
      name: line.name,
      data: data.length > 2000 ? data : withDots(data),
      itemStyle: { color },
      lineStyle: { width: line.quiet ? 1 : 2, color, join: 'round', opacity: line.quiet ? 0.7 : 1 },
      z: line.quiet ? 1 : 3,
      ...(line.area && !log
        ? {
            areaStyle: {
              color: { type: 'linear', x: 0, y: 0, x2: 0, y2: 1, colorStops: [{ offset: 0, color: `${color}40` }, { offset: 1, color: `${color}05` }] },
            },
          }
        : {}),
    },
  ];
  if (line.series.before.length)
    out.push({
      ...common,
      id: line.name + BEFORE,
      name: line.name + BEFORE,
      data: read(line.series.before),
      itemStyle: { color },
      lineStyle: { width: 1.5, color, type: [4, 4], opacity: 0.6 },
      z: 2,
    });
  return out;
}

export function axisStyle(c: Colors) {
  return {
    axisLine: { show: false, lineStyle: { color: c.line } },
    axisTick: { show: false },
    axisLabel: { color: c.soft, fontSize: 11, hideOverlap: true },
    splitLine: { show: false, lineStyle: { color: c.line } },
  };
}

/** Enough of a grid for labels on the left and below. */
export const GRID = { left: 8, right: 14, top: 12, bottom: 4, containLabel: true };

/** A box around the cursor's text; what is in it is an element. */
export function tipBox(c: Colors) {
  return {
    confine: true,
    transitionDuration: 0,
    backgroundColor: c.surface,
    borderColor: c.line,
    borderWidth: 1,
    padding: 0,
    extraCssText: 'box-shadow: 0 6px 24px rgb(0 0 0 / .18); border-radius: 8px;',
  };
}

/** For dragging a range; its icons are not shown, the card has a button that shows all again. */
const DRAG_TO_ZOOM = {
  toolbox: { show: true, itemSize: 0, showTitle: false, feature: { dataZoom: { yAxisIndex: 'none', brushStyle: { color: 'rgba(90,130,240,.18)' }, icon: { zoom: 'M0,0', back: 'M0,0' } } } },
};

/** Zooms along the x axis: by dragging, by pinching, by the wheel with Ctrl. */
export const ALONG_X = {
  ...DRAG_TO_ZOOM,
  dataZoom: [{ type: 'inside', filterMode: 'none', zoomOnMouseWheel: 'ctrl', moveOnMouseWheel: false, moveOnMouseMove: 'shift', preventDefaultMouseMove: false }],
};

function nearest(points: Point[], t: number, step: number): Point | undefined {
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((points[middle] as Point).t < t) low = middle + 1;
    else high = middle;
  }
  const near = [points[low - 1], points[low]].filter((p): p is Point => !!p).sort((a, b) => Math.abs(a.t - t) - Math.abs(b.t - t))[0];
  return near && Math.abs(near.t - t) <= step ? near : undefined;
}

export function TimeChart(props: TimeChartProps) {
  const { lines, format } = props;
  const c = colors.value;
  const words = RANGES[route.value.range].words;
  const log = !!props.spread && route.value.filters.axis === 'log';
  const first = lines[0]?.series;
  const signature = lines.map((line) => line.series);
  const nothing = lines.every((line) => !line.series.points.length);
  const loaded = lines.every((line) => line.series.loaded);

  const option = useCallback(
    (hidden: ReadonlySet<string>) => {
      const drawn = lines.filter((line) => !hidden.has(line.name));
      const tip = (at: unknown) => {
        const list = at as { axisValue: number }[];
        const t = Number(list[0]?.axisValue);
        const rows: TipRow[] = [];
        for (const line of drawn) {
          const color = c.series[line.color % c.series.length];
          const here = nearest(line.series.points, t, line.series.step);
          if (here) rows.push({ color, name: line.name, value: format(here[line.what]) });
          const then = nearest(line.series.before, t, line.series.step);
          if (then) rows.push({ name: `${line.name}, ${words} earlier`, value: format(then[line.what]), soft: true });
        }
        return tooltip(show.dayTime(t), rows);
      };
      return {
        grid: GRID,
        ...ALONG_X,
        tooltip: { ...tipBox(c), trigger: 'axis', formatter: tip, axisPointer: { type: 'line', lineStyle: { color: c.soft, width: 1, type: 'solid' }, label: { show: false }, snap: true } },
        xAxis: { type: 'time', min: first?.from, max: first?.to, ...axisStyle(c), axisLabel: { ...axisStyle(c).axisLabel, formatter: (t: number) => (t % 60000 ? show.time(t) : show.shortTime(t)) } },
        yAxis: { type: log ? 'log' : 'value', min: log ? undefined : 0, max: props.max, splitNumber: 4, interval: props.max === 1 ? 0.25 : undefined, ...axisStyle(c), splitLine: { show: true, lineStyle: { color: c.line, opacity: 0.7 } }, axisLabel: { ...axisStyle(c).axisLabel, formatter: format } },
        series: drawn.flatMap((line) => lineSeries(line, c, log)),
      };
    },
    [c, format, words, props.max, log, ...signature],
  );

  const table = () => {
    const times = [...new Set(lines.flatMap((line) => line.series.points.map((p) => p.t)))].sort((a, b) => a - b);
    const index = lines.map((line) => new Map(line.series.points.map((p) => [p.t, p[line.what]])));
    const earlier = lines.map((line) => line.series.before);
    const compared = earlier.some((points) => points.length);
    return {
      columns: ['time', ...lines.map((line) => line.name), ...(compared ? lines.map((line) => `${line.name} before`) : [])],
      rows: times.map((t) => [
        new Date(t).toISOString(),
        ...index.map((of) => of.get(t) ?? null),
        ...(compared ? lines.map((line, i) => nearest(earlier[i] ?? [], t, line.series.step)?.[line.what] ?? null) : []),
      ]),
      show: (cell: string | number | null, column: number) => (column ? format(cell as number | null) : show.dayTime(Date.parse(String(cell)))),
    };
  };

  const legend = useMemo<LegendItem[]>(
    () =>
      lines.map((line) => {
        const newest = line.series.points[line.series.points.length - 1];
        return { name: line.name, color: c.series[line.color % c.series.length] as string, value: newest ? format(newest[line.what]) : undefined };
      }),
    [c, format, ...signature],
  );

  return (
    <ChartCard
      id={props.id}
      title={props.title}
      hint={props.hint}
      option={option}
      table={table}
      summary={`${legend.map((item) => `${item.name} ${item.value ?? 'no data'}`).join(', ')} now, over the last ${words}.`}
      legend={legend}
      empty={nothing ? (loaded ? props.empty : 'Loading…') : undefined}
      height={props.height}
      wide={props.wide}
      group="time"
      tools={
        props.spread && (
          <button type="button" title="Logarithmic axis" aria-label={`${props.title}: logarithmic axis`} aria-pressed={log} onClick={() => setFilter('axis', log ? '' : 'log')}>
            <Icon name="log" />
          </button>
        )
      }
      along
    />
  );
}
