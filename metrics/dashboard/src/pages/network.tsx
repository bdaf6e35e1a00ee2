// The way to the API: connections, how long its parts take, breakers, quotas and the concurrency limit.
import { send } from '../api';
import { BarChart } from '../chart/bars';
import { PieChart } from '../chart/pie';
import { TimeChart } from '../chart/time';
import { BreakerTimeline } from '../chart/timeline';
import * as show from '../format';
import { live, summary } from '../live';
import { useSeries } from '../series';
import { useTrail } from '../trail';
import { Badge, Button, Card, Empty, Meter, Tile } from '../ui/parts';
import { attempt } from '../ui/toast';
import { QuotaMeters } from './quota';

const NO_CALL = 'No call has gone to the API yet. Send a request through the sidecar that the cache cannot answer.';
const SINCE_OPENED = 'As heard since this page was opened';
const PHASES: [string, string][] = [
  ['pool_wait', 'Wait for a connection'],
  ['dns', 'DNS'],
  ['tcp', 'TCP'],
  ['tls', 'TLS'],
  ['round_trip', 'Round trip'],
  ['first_byte', 'First byte'],
  ['upstream', 'Whole answer'],
];

function Circuits() {
  const circuits = Object.entries(live.value.network?.circuit ?? {});
  return (
    <Card id="circuits" title="Circuit breakers" hint="One for the way to the API, one for each operation" wide>
      {circuits.length ? (
        <div class="scroll" tabIndex={0} role="region" aria-label="Circuit breakers, table">
          <table>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">State</th>
                <th scope="col">Cause</th>
                <th scope="col" class="figure">
                  For
                </th>
                <th scope="col" class="figure">
                  Opened
                </th>
                <th scope="col">
                  <span class="unseen">Reset</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {circuits.map(([name, circuit]) => (
                <tr>
                  <td>{name}</td>
                  <td>
                    <Badge mood={circuit.state === 'closed' ? 'good' : circuit.state === 'open' ? 'bad' : 'warn'}>{circuit.state}</Badge>
                  </td>
                  <td>{circuit.cause === 'none' ? '–' : circuit.cause}</td>
                  <td class="figure">{show.duration(Math.round(circuit.seconds_in_state))}</td>
                  <td class="figure">{show.whole(circuit.opened)}×</td>
                  <td class="figure">
                    {circuit.state !== 'closed' && (
                      <Button onClick={() => void attempt(() => send('POST', `api/v1/circuit/${encodeURIComponent(name)}/reset`), `The circuit ${name} is closed again.`)} icon="undo">
                        Reset
                      </Button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <Empty>No circuit breaker is on: see circuit_breaker.enable_circuit_breaker.</Empty>
      )}
    </Card>
  );
}

export function Network() {
  const { pool, phases, rate_limits, circuit } = live.value.network ?? {};
  const about = summary.value;
  const size = useSeries('CONNECTION_POOL_SIZE');
  const trip = useSeries('NETWORK_LATENCY');
  const limit = rate_limits?.concurrency;
  const budget = circuit?.upstream?.retry_budget;
  const course = { idle: useTrail('idle'), active: useTrail('active'), waiting: useTrail('waiting'), limit: useTrail('limit'), in_flight: useTrail('in_flight') };
  const measured = PHASES.filter(([id]) => phases?.[id]?.count);
  const quantile = (what: 'p50' | 'p95' | 'p99') => measured.map(([id]) => phases?.[id]?.[what] ?? null);
  const outcomes = new Map<string, number>();
  for (const one of live.value.requests?.upstream_by_outcome ?? []) outcomes.set(one.outcome, (outcomes.get(one.outcome) ?? 0) + one.count);
  const ranked = [...outcomes].sort((a, b) => b[1] - a[1]).slice(0, 10);
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
        <TimeChart id="pool-size" title="Connections over time" hint="Upstream connections in all" format={show.number} lines={[{ name: 'Connections', series: size, what: 'mean', color: 0, area: true }]} empty={NO_CALL} />
        <PieChart
          id="pool-states"
          title="Connections by state"
          hint="Now"
          slices={pool ? [{ name: 'idle', value: pool.idle, color: 2 }, { name: 'active', value: pool.active, color: 0 }, { name: 'connecting', value: pool.connecting, color: 4 }] : []}
          what="state"
          of="connections"
          empty={NO_CALL}
        />
        <BarChart
          id="phases"
          title="Where the time goes"
          hint="Of all calls since the start"
          names={measured.map(([, words]) => words)}
          what="phase"
          bars={[
            { name: 'p50', color: 2, values: quantile('p50') },
            { name: 'p95', color: 0, values: quantile('p95') },
            { name: 'p99', color: 1, values: quantile('p99') },
          ]}
          format={show.duration}
          height="tall"
          empty={NO_CALL}
        />
        <TimeChart id="round-trip" title="Round trip" hint="To the API, as the kernel measured it" format={show.duration} height="tall" lines={[{ name: 'Mean', series: trip, what: 'mean', color: 0 }, { name: 'p95', series: trip, what: 'p95', color: 1 }]} empty={NO_CALL} />
        <BreakerTimeline />
        <Circuits />
        <Card id="quotas" title="Quota windows" hint={rate_limits ? `The API's rate limits; mode: ${rate_limits.mode}` : undefined}>
          <QuotaMeters all />
          {budget !== undefined && <Meter name="Retry budget" value={budget} max={Math.max(10, budget)} text={`${show.number(budget)} may follow at once`} mood={budget < 1 ? 'bad' : 'good'} />}
        </Card>
        <TimeChart id="concurrency" title="Concurrency limit" hint={SINCE_OPENED} format={show.number} lines={[{ name: 'Limit', series: course.limit, what: 'mean', color: 6 }, { name: 'In flight', series: course.in_flight, what: 'mean', color: 0, area: true }]} empty="The concurrency limit is off: see concurrency.mode." />
        <TimeChart id="pool-use" title="Pool in use" hint={SINCE_OPENED} format={show.number} lines={[{ name: 'Active', series: course.active, what: 'mean', color: 0, area: true }, { name: 'Idle', series: course.idle, what: 'mean', color: 2 }, { name: 'Waiting', series: course.waiting, what: 'mean', color: 1 }]} empty={NO_CALL} />
        <BarChart id="outcomes" title="How calls ended" hint="Attempts at the API since the start" names={ranked.map(([name]) => name)} what="outcome" bars={[{ name: 'Attempts', color: 0, values: ranked.map(([, count]) => count) }]} format={show.whole} empty={NO_CALL} />
      </div>
    </>
  );
}
