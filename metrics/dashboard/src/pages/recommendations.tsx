// Every recommendation with its evidence: trying it is an experiment that ends by itself, and can be ended by hand.
import { useState } from 'preact/hooks';
import { send } from '../api';
import * as show from '../format';
import { live, refreshNow } from '../live';
import type { Recommendation } from '../types';
import { Confirm } from '../ui/confirm';
import { Badge, Button, Empty, Meter } from '../ui/parts';
import { attempt } from '../ui/toast';

const STATES: Record<string, { words: string; mood: 'good' | 'info' | 'warn' | 'bad' | 'quiet' }> = {
  proposed: { words: 'Proposed', mood: 'info' },
  trying: { words: 'Being tried', mood: 'warn' },
  applied: { words: 'Kept', mood: 'good' },
  reverted: { words: 'Taken back', mood: 'quiet' },
};

type Act = 'apply' | 'dismiss' | 'revert';
const DONE: Record<Act, string> = {
  apply: 'The experiment has begun: old and new setting in turns.',
  dismiss: 'It is not shown for a day.',
  revert: 'The old setting is in force again.',
};

async function act(one: Recommendation, what: Act): Promise<void> {
  if (await attempt(() => send('POST', `api/v1/recommendations/${encodeURIComponent(one.id)}/${what}`), DONE[what])) refreshNow();
}

/** The estimate with its margin, and what was measured, on one scale. */
function Gain({ one }: { one: Recommendation }) {
  const { improvement, margin } = one.estimate;
  const measured = one.measured_improvement;
  const m = one.experiment?.margin ?? 0;
  const low = Math.min(0, improvement - margin, (measured ?? 0) - m);
  const high = Math.max(0.1, improvement + margin, (measured ?? 0) + m);
  const x = (v: number) => 2 + (96 * (v - low)) / (high - low);
  const bar = (v: number, spread: number, y: number, name: string) => (
    <g class={name}>
      <rect class="reach" x={Math.min(x(0), x(v))} y={y - 4} width={Math.abs(x(v) - x(0))} height="8" />
      <line x1={x(v - spread)} x2={x(v + spread)} y1={y} y2={y} vector-effect="non-scaling-stroke" />
      <rect x={x(v) - 0.6} y={y - 4} width="1.2" height="8" />
    </g>
  );
  const text = `Estimated ${show.percent(improvement)} ± ${show.percent(margin)}${measured === null ? '' : `, measured ${show.percent(measured)}${m ? ` ± ${show.percent(m)}` : ''}`} less ${one.estimate.of}`;
  return (
    <figure class="gain-figure">
      <svg viewBox={`0 0 100 ${measured === null ? 16 : 30}`} preserveAspectRatio="none" role="img" aria-label={text}>
        <line class="zero" x1={x(0)} x2={x(0)} y1="0" y2="30" vector-effect="non-scaling-stroke" />
        {bar(improvement, margin, 8, 'estimated')}
        {measured !== null && bar(measured, m, 22, 'measured')}
      </svg>
      <figcaption>{text}</figcaption>
    </figure>
  );
}

function Experiment({ one }: { one: Recommendation }) {
  const e = one.experiment;
  if (!e) return null;
  return (
    <div class="experiment" id={`experiment-${one.id}`}>
      {one.state === 'trying' ? (
        <Meter name="Pairs of turns, old against new" value={e.pairs} max={e.pairs_in_all} text={`${e.pairs} of ${e.pairs_in_all}`} mood="plain" />
      ) : (
        <p>
          Verdict after {e.pairs} pairs of turns: <b>{e.verdict}</b>
          {e.why ? `. ${e.why}` : ''}
        </p>
      )}
    </div>
  );
}

function One({ one, busy }: { one: Recommendation; busy: boolean }) {
  const [asked, setAsked] = useState(false);
  const state = STATES[one.state] ?? { words: one.state, mood: 'quiet' as const };
  return (
    <article class="card advice" id={`advice-${one.id}`} aria-labelledby={`advice-${one.id}-title`}>
      <div class="advice-head">
        <div>
          <h2 id={`advice-${one.id}-title`}>{one.title}</h2>
          <p class="soft">{one.category}</p>
        </div>
        <Badge mood={state.mood}>{state.words}</Badge>
      </div>
      <p class="advice-gain">
        <b class="gain">{one.estimated_improvement}</b>
      </p>
      <Gain one={one} />
      <p>{one.evidence.because}</p>
      <dl class="facts two">
        <dt>Setting</dt>
        <dd>
          <code>{one.change.key}</code>: {one.change.from} → <b>{one.change.to}</b>
        </dd>
        <dt>Confidence</dt>
        <dd>{show.percent(one.confidence)}</dd>
        <dt>Rests on</dt>
        <dd>
          {show.whole(one.evidence.windows)} windows of time, {show.whole(one.evidence.requests_in_the_last)} requests in the last
        </dd>
        <dt>Impact, effort</dt>
        <dd>
          {one.impact}, {one.effort}
        </dd>
      </dl>
      <Experiment one={one} />
      <div class="row-buttons">
        {(one.state === 'proposed' || one.state === 'reverted') && (
          <Button primary disabled={busy} onClick={() => setAsked(true)}>
            Try it
          </Button>
        )}
        {(one.state === 'trying' || one.state === 'applied') && (
          <Button icon="undo" onClick={() => void act(one, 'revert')}>
            {one.state === 'trying' ? 'End the experiment' : 'Revert'}
          </Button>
        )}
        {one.state === 'proposed' && <Button onClick={() => void act(one, 'dismiss')}>Dismiss</Button>}
        {busy && one.state === 'proposed' && <span class="soft">Another one is being tried.</span>}
      </div>
      {asked && (
        <Confirm
          title={`Try: ${one.title.toLowerCase()}?`}
          words={`${one.change.key} goes from ${one.change.from} to ${one.change.to} in turns, until one is shown to be better. It is kept if that is the new one, and taken back at once when it does harm.`}
          yes="Try it"
          onNo={() => setAsked(false)}
          onYes={() => {
            setAsked(false);
            void act(one, 'apply');
          }}
        />
      )}
    </article>
  );
}

export function Recommendations() {
  const advice = live.value.recommendations;
  const list = [...(advice?.recommendations ?? [])].sort((a, b) => Number(b.state === 'trying') - Number(a.state === 'trying') || b.estimate.improvement * b.confidence - a.estimate.improvement * a.confidence);
  return (
    <>
      <div class="standing">
        <p>
          Each is worked out from this sidecar's own traffic. <b>Trying one is an experiment:</b> old and new setting take turns, the better one stays. {advice?.auto_apply ? 'The surest is tried by itself (performance.optimization_auto_apply).' : ''}
        </p>
      </div>
      {list.length ? (
        <div class="grid">
          {list.map((one) => (
            <One key={one.id} one={one} busy={!!advice?.experiment && advice.experiment !== one.id} />
          ))}
        </div>
      ) : (
        <div class="card" id="no-advice">
          <Empty>
            {advice && !advice.enabled
              ? 'Recommendations are off: set performance.enable_optimization_recommendations.'
              : 'Nothing to improve has been found. Findings need some minutes of traffic, and none is made up where the evidence is thin.'}
          </Empty>
        </div>
      )}
    </>
  );
}
