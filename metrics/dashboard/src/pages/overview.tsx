// How the sidecar and the API behind it do, at a glance.
import { GaugeChart } from '../chart/gauge';
import { TimeChart } from '../chart/time';
import * as show from '../format';
import { live, summary } from '../live';
import { go, RANGES, route } from '../route';
import { meanOf, useSeries, type Series, type Statistic } from '../series';
import type { Alert, Circuits } from '../types';
import { Card, Tile } from '../ui/parts';
import { Icon } from '../ui/icon';
import { AdviceSummary } from './advice';
import { QuotaMeters } from './quota';

const NO_TRAFFIC = 'No requests in this range yet. Point your application at the sidecar, or choose a longer range.';

function course(series: Series, what: Statistic): number[] {
  const values = series.points.map((p) => p[what]).filter((v) => v != null);
  const every = Math.ceil(values.length / 60);
  return every > 1 ? values.filter((_, i) => i % every === 0) : values;
}

/** How much a statistic has changed against the period before; `better` says which way is good. */
export function change(series: Series, what: Statistic, better: 'more' | 'less', weigh = true) {
  const then = meanOf(series.before, what, weigh);
  const now = meanOf(series.points, what, weigh);
  if (!route.value.compare || then === null || now === null) return undefined;
  if (then === 0) return now === 0 ? { text: 'as before', mood: 'same' as const } : undefined;
  const grown = now / then - 1;
  if (Math.abs(grown) < 0.005) return { text: 'as before', mood: 'same' as const };
  const good = grown > 0 === (better === 'more');
  return { text: `${grown > 0 ? '▲' : '▼'} ${show.percent(Math.abs(grown))}`, mood: good ? ('good' as const) : ('bad' as const) };
}

export function openCircuits(circuits: Circuits | undefined): string[] {
  return Object.entries(circuits ?? {})
    .filter(([, circuit]) => circuit.state !== 'closed')
    .map(([name]) => name);
}

/** One sentence on how things are. */
function Standing() {
  const { alerts, network } = live.value;
  const about = summary.value;
  const firing = (alerts?.alerts ?? []).filter((alert: Alert) => alert.state === 'firing');
  const open = openCircuits(network?.circuit);
  const worst = firing.find((alert) => alert.severity === 'critical' || alert.severity === 'error') ?? firing[0];
  if (!about) return null;
  const mood = worst || open.length ? (worst?.severity === 'info' && !open.length ? 'info' : 'bad') : 'good';
  return (
    <div class={`standing ${mood}`} id="standing">
      <Icon name={mood === 'good' ? 'check' : 'warning'} size={22} />
      <p>
        {worst ? (
          <>
            <b>
              {firing.length === 1 ? 'One alert is firing' : `${firing.length} alerts are firing`}: {worst.message}
            </b>{' '}
            <a href="#/alerts" onClick={(event) => (event.preventDefault(), go({ page: 'alerts' }))}>
              See the alerts
            </a>
          </>
        ) : open.length ? (
          <b>Circuit open: {open.join(', ')}. Stale answers are served where there are any.</b>
        ) : (
          <b>All is well.</b>
        )}{' '}
        <span>
          Up for {show.span(about.uptime)}. In the {`last ${RANGES[route.value.range].words}`} it saved {show.whole(about.cost.requests_saved)} calls to the API and {show.span(about.cost.fetch_seconds_saved)} of waiting.
        </span>
      </p>
    </div>
  );
}

function Quota() {
  return (
    <Card id="quota" title="Quota left" hint="Of the API's rate limits">
      <QuotaMeters />
    </Card>
  );
}

export function Overview() {
  const { operation, range, compare } = route.value;
  const about = summary.value;
  const throughput = useSeries('THROUGHPUT', operation);
  const latency = useSeries('REQUEST_LATENCY', operation);
  const hits = useSeries('CACHE_HIT_RATE', operation);
  const errors = useSeries('ERROR_RATE', operation);
  const memory = useSeries('MEMORY_USAGE');
  const cpu = useSeries('CPU_USAGE');
  const words = `last ${RANGES[range].words}`;
  return (
    <>
      <Standing />
      <div class="tiles">
        <Tile id="tile-throughput" name="Requests a second" value={show.number(about?.throughput)} note={words} course={course(throughput, 'mean')} change={change(throughput, 'mean', 'more', false)} />
        <Tile id="tile-p95" name="Latency, p95" value={show.duration(about?.request_latency.p95)} note={`p50 ${show.duration(about?.request_latency.p50)}`} course={course(latency, 'p95')} change={change(latency, 'p95', 'less')} />
        <Tile id="tile-hits" name="Cache hit rate" value={show.percent(about?.cache_hit_rate)} note={words} course={course(hits, 'mean')} change={change(hits, 'mean', 'more')} />
        <Tile id="tile-errors" name="Error rate" value={show.percent(about?.error_rate)} note={`${show.whole(about?.requests_failed)} failed`} course={course(errors, 'mean')} change={change(errors, 'mean', 'less')} />
        <Tile id="tile-memory" name="Memory" value={about?.memory_usage_mb == null ? '–' : `${show.number(about.memory_usage_mb)} MB`} note="resident" course={course(memory, 'mean')} change={change(memory, 'mean', 'less')} />
        <Tile id="tile-cpu" name="Processor" value={about?.cpu_usage == null ? '–' : `${show.number(about.cpu_usage)}%`} note="of one processor" course={course(cpu, 'mean')} change={change(cpu, 'mean', 'less')} />
      </div>
      <div class="grid">
        <TimeChart id="throughput" title="Requests" hint="Finished, a second" format={show.unit('requests/second')} lines={[{ name: 'Requests a second', series: throughput, what: 'mean', color: 0, area: true }]} empty={NO_TRAFFIC} />
        <TimeChart
          id="latency"
          spread
          title="Latency"
          hint="From the first byte of a request to the last of its answer"
          format={show.duration}
          lines={[
            { name: 'p50', series: latency, what: 'p50', color: 2 },
            { name: 'p95', series: latency, what: 'p95', color: 0 },
            { name: 'p99', series: latency, what: 'p99', color: 1 },
          ]}
          empty={NO_TRAFFIC}
        />
        <div class="trio">
          <GaugeChart
            id="gauge-hits"
            title="Cache hit rate"
            value={about?.cache_hit_rate ?? null}
            before={compare ? meanOf(hits.before, 'mean') : undefined}
            format={show.percent}
            judge={(v) => (v >= 0.5 ? { mood: 'good', word: 'Good' } : v >= 0.2 ? { mood: 'warn', word: 'Fair' } : { mood: 'bad', word: 'Low' })}
            empty={NO_TRAFFIC}
          />
          <GaugeChart
            id="gauge-errors"
            title="Error rate"
            value={about?.error_rate ?? null}
            before={compare ? meanOf(errors.before, 'mean') : undefined}
            format={show.percent}
            judge={(v) => (v <= 0.01 ? { mood: 'good', word: 'Good' } : v <= 0.1 ? { mood: 'warn', word: 'Raised' } : { mood: 'bad', word: 'High' })}
            empty={NO_TRAFFIC}
          />
          <Quota />
        </div>
        <TimeChart id="rates" title="Hits and errors" hint="Of all requests" format={show.percent} max={1} lines={[{ name: 'Hit rate', series: hits, what: 'mean', color: 2, area: true }, { name: 'Error rate', series: errors, what: 'mean', color: 1 }]} empty={NO_TRAFFIC} />
        <AdviceSummary />
        <TimeChart id="memory" title="Memory" hint="Resident, of the whole process" format={show.unit('MB')} lines={[{ name: 'Memory', series: memory, what: 'mean', color: 3, area: true }]} empty="The first number comes within a second or two." />
        <TimeChart id="cpu" title="Processor" hint="Of one processor" format={show.unit('percent')} lines={[{ name: 'Processor', series: cpu, what: 'mean', color: 4, area: true }]} empty="The first number comes within a second or two." />
      </div>
    </>
  );
}
