// The way to the API: connections, how long its parts take, breakers, quotas and the concurrency limit.
import { send } from '../api';
import { BarChart } from '../chart/bars';
import { PieChart } from '../chart/pie';
import { TimeChart, type Line } from '../chart/time';
import { BreakerTimeline } from '../chart/timeline';
import * as show from '../format';
import { live, summary } from '../live';
import { earlier, slicesOf, useParts, valuesOf } from '../parts';
import { useSeries } from '../series';
import { Badge, Button, Card, Empty, Meter, Tile } from '../ui/parts';
import { Table } from '../ui/table';
import { attempt } from '../ui/toast';
import { QuotaMeters } from './quota';

const NO_CALL = 'No call has gone to the API yet. Send a request through the sidecar that the cache cannot answer.';
const PHASES: [id: string, words: string, color: number][] = [
  ['pool_wait', 'Wait for a connection', 3],
  ['dns', 'DNS', 4],
  ['tcp', 'TCP', 5],
  ['tls', 'TLS', 2],
  ['round_trip', 'Round trip', 6],
  ['upstream', 'Whole answer', 1],
  ['first_byte', 'First byte', 0],
];

/** Colours of a connection's states. */
const STATES: Record<string, number> = { idle: 2, active: 0, connecting: 4 };

function Circuits() {
  const circuits = Object.entries(live.value.network?.circuit ?? {});
  return (
    <Card id="circuits" title="Circuit breakers" hint="One for the way to the API, one for each operation" wide>
      {circuits.length ? (
        <Table
          label="Circuit breakers"
          free
          rows={circuits}
          rowKey={([name]) => name}
          columns={[
            { name: 'Name', lead: true, cell: ([name]) => <b>{name}</b> },
            { name: 'State', cell: ([, one]) => <Badge mood={one.state === 'closed' ? 'good' : one.state === 'open' ? 'bad' : 'warn'}>{one.state}</Badge> },
            { name: 'Last cause', cell: ([, one]) => (one.cause === 'none' ? '–' : one.cause.replace(/_/g, ' ')) },
            { name: 'For', figure: true, cell: ([, one]) => show.span(one.seconds_in_state) },
            { name: 'Opened', figure: true, cell: ([, one]) => `${show.whole(one.opened)}×` },
            {
              name: 'Reset',
              acts: true,
              cell: ([name, one]) =>
                one.state !== 'closed' && (
                  <Button onClick={() => void attempt(() => send('POST', `api/v1/circuit/${encodeURIComponent(name)}/reset`), `The circuit ${name} is closed again.`)} icon="undo">
                    Reset
                  </Button>
                ),
            },
          ]}
        />
      ) : (
        <Empty>No circuit breaker is on: see circuit_breaker.enable_circuit_breaker.</Empty>
      )}
    </Card>
  );
}

/** The same times as the range goes by, with the wait for the first byte the longest most often. */
function PhasesOverTime() {
  const lines = PHASES.filter(([id]) => id !== 'round_trip').map(([id, name, color]): Line => ({ name, color, what: 'p95', quiet: id === 'upstream', series: useSeries('NETWORK_LATENCY', '', `phase=${id}`) }));
  return <TimeChart id="phases-time" title="Phases of a call" hint="p95 of each" spread format={show.duration} height="tall" lines={lines.filter((line) => !line.series.loaded || line.series.points.length)} empty={NO_CALL} />;
}

function PoolInUse() {
  const state = (name: string) => useSeries('CONNECTION_POOL_SIZE', '', `state=${name}`);
  const lines: Line[] = [
    { name: 'Active', series: state('active'), what: 'mean', color: 0, area: true },
    { name: 'Idle', series: state('idle'), what: 'mean', color: 2 },
    { name: 'Connecting', series: state('connecting'), what: 'mean', color: 4 },
    { name: 'Requests waiting', series: state('waiting'), what: 'max', color: 1 },
  ];
  return <TimeChart id="pool-use" title="Pool" hint="Connections by state, and requests that wait for one" format={show.number} lines={lines} empty={NO_CALL} />;
}

function Concurrency() {
  const lines: Line[] = [
    { name: 'Limit', series: useSeries('CONNECTION_POOL_SIZE', '', 'state=limit'), what: 'mean', color: 6 },
    { name: 'In flight', series: useSeries('CONNECTION_POOL_SIZE', '', 'state=in_flight'), what: 'max', color: 0, area: true },
  ];
  return <TimeChart id="concurrency" title="Concurrency limit" spread hint="Calls at the API at once, and how many may be" format={show.number} lines={lines} empty="No call was limited in this range: see concurrency.mode." />;
}

export function Network() {
  const { pool, phases, rate_limits, circuit } = live.value.network ?? {};
  const byPhase = useParts('NETWORK_LATENCY', 'phase');
  const byState = useParts('CONNECTION_POOL_SIZE', 'state');
  const byOutcome = useParts('THROUGHPUT', 'outcome');
  const about = summary.value;
  const trip = useSeries('NETWORK_LATENCY');
  const limit = rate_limits?.concurrency;
  const budget = circuit?.upstream?.retry_budget;
  const measured = PHASES.filter(([id]) => byPhase.parts.some((part) => part.part === id));
  const quantile = (name: 'p50' | 'p95' | 'p99', color: number) => {
    const ids = measured.map(([id]) => id);
    return { name, color, values: valuesOf(byPhase.parts, ids, name), before: earlier(byPhase, ids, name) };
  };
  const ranked = [...byOutcome.parts].sort((a, b) => b.count - a.count).slice(0, 10).map((part) => part.part);
  const reuse = pool && pool.opened + pool.reused ? pool.reused / (pool.opened + pool.reused) : null;
  return (
    <>
      <div class="tiles">
        <Tile id="net-active" name="Requests at work" value={show.whole(about?.active_requests)} note="now" />
        <Tile id="net-pool" name="Connections" value={pool ? `${pool.idle + pool.active + pool.connecting}` : '–'} note={`of at most ${show.whole(pool?.max_size)}`} />
        <Tile id="net-waiting" name="Waiting for one" value={show.whole(pool?.waiting)} note={`p95 ${show.duration(phases?.pool_wait?.p95)}`} />
        <Tile id="net-reuse" name="Reused" value={show.percent(reuse)} note={`${show.whole(pool?.opened)} opened`} />
        <Tile id="net-trip" name="Round trip" value={show.duration(about?.network_latency)} note="to the API" />
        <Tile id="net-limit" name="Concurrency limit" value={show.whole(limit?.limit)} note={limit ? `${limit.mode}, ${show.whole(limit.in_flight)} in flight` : ''} />
      </div>
      <div class="grid">
        <PoolInUse />
        <PieChart
          id="pool-states"
          title="Connections by state"
          hint="On average over the range"
          slices={slicesOf({ ...byState, parts: byState.parts.filter((part) => part.part in STATES) }, (name) => ({ name, color: STATES[name] ?? 6 }), 'mean').filter((slice) => slice.name in STATES)}
          format={show.number}
          what="state"
          of="connections"
          empty={NO_CALL}
        />
        <PhasesOverTime />
        <BarChart
          id="phases"
          title="Where the time goes"
          hint="Of all calls in the range"
          names={measured.map(([, words]) => words)}
          what="phase"
          bars={[
            quantile('p50', 2),
            quantile('p95', 0),
            quantile('p99', 1),
          ]}
          format={show.duration}
          height="tall"
          empty={NO_CALL}
        />
        <BreakerTimeline />
        <Circuits />
        <Card id="quotas" title="Quota windows" hint={rate_limits ? `The API's rate limits; mode: ${rate_limits.mode}` : undefined}>
          <QuotaMeters all />
          {budget !== undefined && <Meter name="Retry budget" value={budget} max={Math.max(10, budget)} text={`${show.number(budget)} may follow at once`} mood={budget < 1 ? 'bad' : 'good'} />}
        </Card>
        <Concurrency />
        <TimeChart id="round-trip" title="Round trip" hint="To the API, as the kernel measured it" format={show.duration} lines={[{ name: 'Mean', series: trip, what: 'mean', color: 0 }, { name: 'p95', series: trip, what: 'p95', color: 1 }]} empty={NO_CALL} />
        <BarChart id="outcomes" title="How calls ended" hint="Attempts at the API in the range" names={ranked.map((name) => name.replace(/_/g, ' '))} what="outcome" bars={[{ name: 'Attempts', color: 0, values: valuesOf(byOutcome.parts, ranked, 'count'), before: earlier(byOutcome, ranked, 'count') }]} format={show.whole} empty={NO_CALL} />
      </div>
    </>
  );
}
