// The drawing in a card: ECharts is loaded after the page stands; a chart is made once and changed in place. What cannot
// be seen, because it is scrolled away or in a hidden tab, is drawn once and then again only when it comes into view.
import type { EChartsCoreOption, EChartsType } from 'echarts/core';
import { useEffect, useRef, useState } from 'preact/hooks';
import { colors } from './colors';

declare global {
  interface HTMLDivElement {
    chart?: EChartsType;
  }
}

export interface DrawingProps {
  option: (hidden: ReadonlySet<string>) => EChartsCoreOption;
  group?: string;
  along?: boolean;
  onPick?: (index: number, series: string) => void;
}

const touch = matchMedia('(pointer: coarse)').matches;

/** Who waits to hear whether an element has come into view, or has left it. */
const watched = new Map<Element, (isSeen: boolean) => void>();
const eye = new IntersectionObserver((entries) => entries.forEach((entry) => watched.get(entry.target)?.(entry.isIntersecting)), { rootMargin: '120px' });

function watch(element: Element, tell: (isSeen: boolean) => void): () => void {
  watched.set(element, tell);
  eye.observe(element);
  return () => {
    eye.unobserve(element);
    watched.delete(element);
  };
}

/** Empties it first, and lets what was still being painted end: ECharts fails when it is disposed of in the midst of that. */
function dispose(chart: EChartsType): void {
  chart.clear();
  setTimeout(() => chart.dispose(), 200);
}

export function useDrawing(props: DrawingProps, hidden: ReadonlySet<string>, shown: boolean) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | undefined>(undefined);
  const seen = useRef(true); // until the observer has said otherwise
  const behind = useRef(false); // there is something new that is not drawn
  const [zoomed, setZoomed] = useState(false);
  const theme = colors.value;

  const draw = (always = false) => {
    if (!chart.current) return;
    behind.current = !always && (!seen.current || document.hidden);
    if (behind.current) return;
    chart.current.setOption({ animation: false, textStyle: { fontFamily: 'Inter, system-ui, sans-serif' }, ...props.option(hidden) }, { replaceMerge: ['series'], lazyUpdate: true });
  };
  const latest = useRef({ props, draw });
  latest.current = { props, draw };

  useEffect(() => {
    const element = place.current;
    if (!shown || !element) return;
    const undo: (() => void)[] = [];
    let gone = false;
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
      made.on('click', (event) => latest.current.props.onPick?.(event.dataIndex, event.seriesName ?? ''));
      latest.current.draw(true);
      if (props.along && !touch) made.dispatchAction({ type: 'takeGlobalCursor', key: 'dataZoomSelect', dataZoomSelectActive: true });
      const catchUp = () => behind.current && latest.current.draw();
      const all = () => latest.current.draw(true);
      const size = new ResizeObserver(() => made.resize());
      size.observe(element);
      document.addEventListener('visibilitychange', catchUp);
      addEventListener('beforeprint', all);
      undo.push(
        watch(element, (isSeen) => {
          seen.current = isSeen;
          catchUp();
        }),
        () => size.disconnect(),
        () => document.removeEventListener('visibilitychange', catchUp),
        () => removeEventListener('beforeprint', all),
      );
      element.dataset.drawn = 'true';
    });
    return () => {
      gone = true;
      for (const one of undo) one();
      if (chart.current) dispose(chart.current);
      chart.current = undefined;
      seen.current = true;
      delete element.dataset.drawn;
      setZoomed(false);
    };
  }, [shown, props.group]);

  useEffect(() => draw(), [props.option, hidden, theme]);
  return { place, chart, zoomed };
}
