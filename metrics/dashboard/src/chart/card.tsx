// A card with a chart in it: title, legend, the drawing, and what can be done with it: read it as a table, take it away
// as CSV, JSON or PNG, see it on the full screen, move along it with the keyboard.
import type { EChartsType } from 'echarts/core';
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { Icon } from '../ui/icon';
import { Menu } from '../ui/menu';
import { colors } from './colors';
import { useDrawing, type DrawingProps } from './drawing';
import { Table as Rows, type Column } from '../ui/table';
import { saveCsv, saveJson, savePng, type Cell, type Table } from './table';

export interface LegendItem {
  name: string;
  color: string;
  value?: string;
  dashed?: boolean;
}

export interface ChartCardProps extends DrawingProps {
  id: string; // names it for tests and links
  title: string;
  hint?: string;
  /** The drawing; series whose names are in `hidden` are to be left out. */
  option: DrawingProps['option'];
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
  /** More buttons beside those that every chart has. */
  tools?: ComponentChildren;
  children?: ComponentChildren;
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
  const columns = table.columns.map((name, i): Column<Cell[]> => {
    const figure = table.rows.every((row) => typeof row[i] === 'number' || row[i] === null);
    return { name, figure, lead: i === 0, cell: (row) => show(row[i] ?? null, i) };
  });
  return <Rows label={title} rows={table.rows.slice(-limit).reverse()} columns={columns} />;
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
            {props.tools}
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
