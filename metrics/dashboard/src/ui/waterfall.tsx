// Where a request's time went: its phases end to end, on one scale for all that are listed.
import { colors } from '../chart/colors';
import { duration } from '../format';
import type { Request } from '../types';
import { Swatch } from '../chart/card';

const PHASES: { name: string; words: string; color: number }[] = [
  { name: 'queue_wait', words: 'held back', color: 4 },
  { name: 'pool_wait', words: 'waits for a connection', color: 3 },
  { name: 'dns', words: 'DNS', color: 5 },
  { name: 'tcp', words: 'TCP', color: 2 },
  { name: 'tls', words: 'TLS', color: 0 },
  { name: 'first_byte', words: 'API to first byte', color: 1 },
  { name: 'transfer', words: 'transfer', color: 6 },
];

/** first_byte is a part of upstream: what is left of that is the transfer. */
function lengths(request: Request): { words: string; color: number; s: number }[] {
  const p = request.phases;
  const of: Record<string, number> = { ...p, transfer: Math.max(0, (p.upstream ?? 0) - (p.first_byte ?? 0)) };
  return PHASES.map(({ name, words, color }) => ({ words, color, s: of[name] ?? 0 })).filter((one) => one.s > 0);
}

export function Waterfall({ request, longest }: { request: Request; longest: number }) {
  const c = colors.value;
  const parts = lengths(request);
  const sum = parts.reduce((total, part) => total + part.s, 0);
  const span = Math.max(longest, sum);
  const words = parts.map((part) => `${part.words} ${duration(part.s)}`).join(', ');
  let x = 0;
  return (
    <svg class="waterfall" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label={words || 'answered by the sidecar itself'}>
      <title>{words || 'answered by the sidecar itself'}</title>
      <rect x="0" y="0" width={Math.max(0.4, (100 * Math.max(request.duration, sum)) / span)} height="12" fill={c.line} />
      {parts.map((part) => {
        const width = (100 * part.s) / span;
        const rect = <rect x={x} y="0" width={Math.max(0.25, width)} height="12" fill={c.series[part.color]} />;
        x += width;
        return rect;
      })}
    </svg>
  );
}

export function WaterfallLegend() {
  const c = colors.value;
  return (
    <ul class="legend plain">
      {PHASES.map((phase) => (
        <li>
          <Swatch color={c.series[phase.color] as string} />
          {phase.words}
        </li>
      ))}
      <li>
        <Swatch color={c.line} />
        the sidecar itself, or between attempts
      </li>
    </ul>
  );
}
