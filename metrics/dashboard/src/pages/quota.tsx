// How much of the API's rate limits is left.
import * as show from '../format';
import { live } from '../live';
import type { QuotaWindow } from '../types';
import { Empty, Meter } from '../ui/parts';

/** "A minute", "An hour"; what nobody states is learnt from refusals, for a length of its own. */
function nameOf(w: QuotaWindow): string {
  if (w.window === 'learnt') return `Learnt, ${show.span(w.length)}`;
  return `${w.window === 'hour' ? 'An' : 'A'} ${w.window}`;
}

export function QuotaMeters({ all }: { all?: boolean }) {
  const keys = live.value.network?.rate_limits?.keys ?? [];
  if (!keys.length) return <Empty>No call has gone to the API yet. The windows show here with the first.</Empty>;
  const windows = keys.flatMap((key) => key.windows);
  const source = windows.some((w) => w.source === 'upstream')
    ? 'As the API tells with its answers.'
    : windows.some((w) => w.window === 'learnt')
      ? 'The API tells no limit: this one is guessed from what it accepted and refused.'
      : 'Counted here, against rate_limit.per_minute, per_hour and per_day: the API does not tell what is left.';
  return (
    <div class="meters">
      {keys.slice(0, all ? 20 : 2).flatMap((key) =>
        key.windows.map((w) => (
          <Meter
            name={keys.length > 1 ? `${key.key}: ${nameOf(w)}` : nameOf(w)}
            note={`anew in ${show.span(w.resets_in, true)}`}
            value={w.remaining}
            max={w.limit}
            text={`${show.whole(w.remaining)} of ${show.whole(w.limit)}`}
            mood={w.remaining < w.limit * 0.1 ? 'bad' : w.remaining < w.limit * 0.3 ? 'warn' : 'good'}
          />
        )),
      )}
      {all && <p class="source">{source}</p>}
      {all && (
        <dl class="facts two">
          {keys.map((key) => (
            <>
              <dt>{keys.length > 1 ? key.key : 'this key'}</dt>
              <dd>
                {show.whole(key.sent)} sent, {show.whole(key.waited)} paced, {show.whole(key.refused)} refused here, {show.whole(key.upstream_refusals)} by the API
              </dd>
            </>
          ))}
        </dl>
      )}
    </div>
  );
}
