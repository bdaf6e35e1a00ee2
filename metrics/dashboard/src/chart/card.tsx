// A card with a chart in it: title, legend, the drawing, and what can be done with it: read it as a table, take it away
// as CSV, JSON or PNG, see it on the full screen, move along it with the keyboard. ECharts is loaded after the page
// stands; a chart is made once and changed in place.
import type { EChartsCoreOption, EChartsType } from 'echarts/core';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { Icon } from '../ui/icon';
import { Menu } from '../ui/menu';
import { colors } from './colors';
import { saveCsv, saveJson, savePng, type Table } from './table';

export interface LegendItem {
  name: string;
  color: string;
  value?: string;
  dashed?: boolean;
}

export interface ChartCardProps {
  id: string; // names it for tests and links
  title: string;
  hint?: string;
  /** The drawing; series whose names are in `hidden` are to be left out. */
  option: (hidden: ReadonlySet<string>) => EChartsCoreOption;
  table: () => Table;
  /** One sentence for those who do not see it. */
  summary: string;
  legend?: LegendItem[];
  /** Said in place of the drawing: why there is nothing, and what to do. */
  empty?: string;
  height?: 'small' | 'normal' | 'tall';
  /** Charts of one group share their cursor and zoom. */
  group?: string;
  /** Whether it can be zoomed by dragging, and moved along by the arrow keys. */
  along?: boolean;
  wide?: boolean;
  onPick?: (index: number, series: string) => void;
  children?: ComponentChildren;
}

declare global {
  interface HTMLDivElement {
    chart?: EChartsType;
  }
}

const touch = matchMedia('(pointer: coarse)').matches;

function useDrawing(props: ChartCardProps, hidden: ReadonlySet<string>, shown: boolean) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | undefined>(undefined);
  const [zoomed, setZoomed] = useState(false);
  const latest = useRef(props);
  latest.current = props;
  const theme = colors.value;

  const draw = () => {
    if (!chart.current) return;
    chart.current.setOption(
      { animation: false, textStyle: { fontFamily: 'Inter, system-ui, sans-serif' }, ...latest.current.option(hidden) },
      { replaceMerge: ['series'], lazyUpdate: true },
    );
  };
  const drawLatest = useRef(draw);
  drawLatest.current = draw;

  useEffect(() => {
    const element = place.current;
    if (!shown || !element) return;
    let gone = false;
    let watch: ResizeObserver | undefined;
    void import('./echarts').then(({ connect, init }) => {
      if (gone) return;
      const made = init(element, undefined, { renderer: 'canvas' });
      chart.current = made;
      element.chart = made; // for tests, and for the curious at the console
      if (props.group) {
        made.group = props.group;
        connect(props.group);
      }
      made.on('datazoom', () => {
        const zoom = (made.getOption().dataZoom as { start: number; end: number }[] | undefined)?.[0];
        setZoomed(!!zoom && (zoom.start > 0.01 || zoom.end < 99.99));
      });
      made.on('click', (event) => latest.current.onPick?.(event.dataIndex, event.seriesName ?? ''));
      drawLatest.current();
      if (props.along && !touch)
        made.dispatchAction({ type: 'takeGlobalCursor', key: 'dataZoomSelect', dataZoomSelectActive: true });
      watch = new ResizeObserver(() => made.resize());
      watch.observe(element);
      element.dataset.drawn = 'true';
    });
    return () => {
      gone = true;
      watch?.disconnect();
      chart.current?.dispose();
      chart.current = undefined;
      delete element.dataset.drawn;
      setZoomed(false);
    };
  }, [shown, props.group]);

  useEffect(() => draw(), [props.option, hidden, theme]);
  return { place, chart, zoomed };
}

/** Arrow keys move the cursor; Escape takes it away. */
function useCursor(chart: { current: EChartsType | undefined }, table: () => Table) {
  const at = useRef(-1);
  const [said, say] = useState('');
  const onKeyDown = (event: KeyboardEvent) => {
    const rows = table().rows;
    const last = rows.length - 1;
    const step = event.shiftKey ? 10 : 1;
    const to: Record<string, number> = {
      ArrowLeft: at.current < 0 ? last : Math.max(0, at.current - step),
      ArrowRight: at.current < 0 ? 0 : Math.min(last, at.current + step),
      Home: 0,
      End: last,
    };
    if (event.key === 'Escape') {
      at.current = -1;
      chart.current?.dispatchAction({ type: 'hideTip' });
    }
    const next = to[event.key];
    if (next === undefined || last < 0) return;
    event.preventDefault();
    at.current = next;
    chart.current?.dispatchAction({ type: 'showTip', seriesIndex: 0, dataIndex: next });
    const { columns, show } = table();
    say((rows[next] ?? []).map((cell, i) => `${columns[i]} ${show ? show(cell, i) : (cell ?? 'none')}`).join(', '));
  };
  return { onKeyDown, said };
}

export function DataTable({ title, table, limit = 500 }: { title: string; table: Table; limit?: number }) {
  const show = table.show ?? ((cell) => (cell === null ? '–' : String(cell)));
  const rows = table.rows.slice(-limit).reverse();
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`${title}, table`}>
      <table>
        <thead>
          <tr>
            {table.columns.map((name) => (
              <th scope="col">{name}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>
              {row.map((cell, i) => (
                <td class={typeof cell === 'number' || cell === null ? 'figure' : ''}>{show(cell, i)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function toggled<T>(set: ReadonlySet<T>, item: T): Set<T> {
  const next = new Set(set);
  if (!next.delete(item)) next.add(item);
  return next;
}

export function ChartCard(props: ChartCardProps) {
  const { id, title, hint, table, summary, legend, empty, height = 'normal', along, wide } = props;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [asTable, setAsTable] = useState(false);
  const [full, setFull] = useState(false);
  const card = useRef<HTMLElement>(null);
  const label = useId();
  const { place, chart, zoomed } = useDrawing(props, hidden, !empty && !asTable);
  const { onKeyDown, said } = useCursor(chart, table);

  useEffect(() => {
    const follow = () => setFull(document.fullscreenElement === card.current);
    document.addEventListener('fullscreenchange', follow);
    return () => document.removeEventListener('fullscreenchange', follow);
  }, []);

  const png = () => {
    const drawn = chart.current?.renderToCanvas({ pixelRatio: 2, backgroundColor: colors.value.surface });
    if (drawn) savePng(title, drawn, colors.value.surface, colors.value.ink);
  };

  return (
    <section ref={card} class={`card chart ${wide ? 'wide' : ''} ${height}`} id={id} aria-labelledby={label}>
      <header>
        <div class="titles">
          <h2 id={label}>{title}</h2>
          {hint && <p>{hint}</p>}
        </div>
        {!empty && (
          <div class="tools">
            {zoomed && (
              <button type="button" title="Show the whole range" aria-label={`${title}: show the whole range`} onClick={() => chart.current?.dispatchAction({ type: 'dataZoom', start: 0, end: 100 })}>
                <Icon name="unzoom" />
              </button>
            )}
            <button type="button" title="Show as a table" aria-label={`${title}: show as a table`} aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
              <Icon name="table" />
            </button>
            <Menu
              label={`${title}: download`}
              icon="download"
              items={[
                { name: 'CSV', act: () => saveCsv(title, table()) },
                { name: 'JSON', act: () => saveJson(title, table()) },
                ...(asTable ? [] : [{ name: 'PNG', act: png }]),
              ]}
            />
            <button
              type="button"
              title={full ? 'Leave the full screen' : 'Full screen'}
              aria-label={`${title}: ${full ? 'leave the full screen' : 'full screen'}`}
              onClick={() => void (full ? document.exitFullscreen() : card.current?.requestFullscreen())}
            >
              <Icon name={full ? 'shrink' : 'expand'} />
            </button>
          </div>
        )}
      </header>
      {empty ? (
        <p class="empty">{empty}</p>
      ) : asTable ? (
        <DataTable title={title} table={table()} />
      ) : (
        <div class="drawing" ref={place} role="img" aria-label={`${title}. ${summary}`} tabIndex={along ? 0 : undefined} onKeyDown={along ? onKeyDown : undefined} />
      )}
      {!empty && along && (
        <span class="unseen" aria-live="polite">
          {said}
        </span>
      )}
      {!empty && legend && (
        <ul class="legend">
          {legend.map((item) => (
            <li>
              <button type="button" aria-pressed={!hidden.has(item.name)} onClick={() => setHidden(toggled(hidden, item.name))}>
                <Swatch color={item.color} dashed={item.dashed} />
                {item.name}
                {item.value && <b>{item.value}</b>}
              </button>
            </li>
          ))}
        </ul>
      )}
      {props.children}
    </section>
  );
}

export function Swatch({ color, dashed }: { color: string; dashed?: boolean }) {
  return (
    <svg class="swatch" width="14" height="10" aria-hidden="true">
      {dashed ? <path d="M0 5h4m2 0h4m2 0h2" stroke={color} stroke-width="2" /> : <rect width="14" height="10" rx="3" fill={color} />}
    </svg>
  );
}
