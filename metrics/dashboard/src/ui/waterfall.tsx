// Where a request's time went: its phases one after the other, on one scale for all that are listed.
import { Swatch } from '../chart/card';
import { colors } from '../chart/colors';
import { duration } from '../format';
import type { Request } from '../types';

/** Phases as the sidecar names them, in what they are for a reader. */
const PHASES: Record<string, { words: string; color: number }> = {
  held: { words: 'held back', color: 4 },
  queue_wait: { words: 'held back', color: 4 },
  second: { words: 'second level of the cache', color: 5 },
  joined: { words: 'joined another request', color: 7 },
  pool_wait: { words: 'connection', color: 3 },
  send: { words: 'sending', color: 2 },
  wait: { words: 'the API, to the first byte', color: 1 },
  body: { words: 'transfer', color: 0 },
  retry_delay: { words: 'between attempts', color: 6 },
};

const known = (phase: string) => PHASES[phase] ?? { words: phase.replace(/_/g, ' '), color: 6 };

export function Waterfall({ request, longest }: { request: Request; longest: number }) {
  const c = colors.value;
  const sum = request.waterfall.reduce((total, part) => total + part.duration, 0);
  const span = Math.max(longest, sum);
  const words = request.waterfall.map((part) => `${known(part.phase).words} ${duration(part.duration)}`).join(', ') || 'answered by the sidecar itself';
  let x = 0;
  return (
    <svg class="waterfall" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label={words}>
      <title>{words}</title>
      <rect x="0" y="0" width={Math.max(0.4, (100 * Math.max(request.duration, sum)) / span)} height="12" fill={c.line} />
      {request.waterfall.map((part) => {
        const width = (100 * part.duration) / span;
        const rect = <rect x={x} y="0" width={Math.max(0.25, width)} height="12" fill={c.series[known(part.phase).color]} />;
        x += width;
        return rect;
      })}
    </svg>
  );
}

/** The phases that these requests have. */
export function WaterfallLegend({ requests }: { requests: Request[] }) {
  const c = colors.value;
  const shown = new Map(requests.flatMap((one) => one.waterfall.map(({ phase }) => [known(phase).words, known(phase).color] as const)));
  return (
    <ul class="legend plain">
      {[...shown].map(([words, color]) => (
        <li>
          <Swatch color={c.series[color] as string} />
          {words}
        </li>
      ))}
      <li>
        <Swatch color={c.line} />
        the sidecar itself
      </li>
    </ul>
  );
}
