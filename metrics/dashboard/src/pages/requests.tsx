// How requests fare: how long they take, which, how they end, and where the time goes in the slowest.
import { useMemo, useState } from 'preact/hooks';
import { BarChart, type BarSeries } from '../chart/bars';
import { HeatMap, type HeatCell } from '../chart/heat';
import { PieChart } from '../chart/pie';
import { TimeChart } from '../chart/time';
import { useFetch } from '../fetch';
import * as show from '../format';
import { live } from '../live';
import { earlier, slicesOf, useParts, valuesOf, type Parts } from '../parts';
import { go, RANGES, route, setFilter } from '../route';
import { useSeries } from '../series';
import type { Part, Request } from '../types';
import { Icon } from '../ui/icon';
import { Badge, Card, Empty } from '../ui/parts';
import { Table } from '../ui/table';
import { Waterfall, WaterfallLegend } from '../ui/waterfall';

const NO_TRAFFIC = 'No requests in this range yet. Point your application at the sidecar, or choose a longer range.';

interface Heat {
  end_time: string;
  bounds: number[];
  columns: { time: string; count: number; counts: number[] }[];
}

/** The heat map's data, and the distribution that is its sum over time; with a comparison, of both periods by the same rows. */
function useLatencyHeat(operation: string) {
  const { range, compare } = route.value;
  const { seconds, step } = RANGES[range];
  const columns = Math.max(step, Math.ceil(seconds / 90 / step) * step);
  const path = `api/v1/metrics/heatmap?metric_type=REQUEST_LATENCY&start_time=-${compare ? 2 * seconds : seconds}s&step=${columns}s&buckets=20${operation ? `&operation=${encodeURIComponent(operation)}` : ''}`;
  const { data } = useFetch<Heat>(path, Math.max(2, columns / 4));
  return useMemo(() => {
    const bounds = data?.bounds ?? [];
    const rows = bounds.slice(1).map((to, i) => `${show.duration(bounds[i])} – ${show.duration(to)}`);
    const all = data?.columns ?? [];
    const middle = compare && data ? Date.parse(data.end_time) - seconds * 1000 : -Infinity;
    const read = (found: Heat['columns']) => ({
      times: found.map((column) => Date.parse(column.time)),
      cells: found.flatMap((column, x) => column.counts.map((v, y): HeatCell => [x, y, v])).filter((cell) => cell[2] > 0),
      sums: rows.map((_, i) => found.reduce((sum, column) => sum + (column.counts[i] ?? 0), 0)),
    });
    const now = read(all.filter((column) => Date.parse(column.time) >= middle));
    const before = compare ? read(all.filter((column) => Date.parse(column.time) < middle)) : undefined;
    return { rows, ticks: bounds.slice(1).map((to) => `≤ ${show.duration(to)}`), ...now, before };
  }, [data, compare, seconds]);
}

function moodOf(status: number): 'good' | 'info' | 'warn' | 'bad' | 'quiet' {
  return status >= 500 || status === 0 || status === 429 ? 'bad' : status >= 400 ? 'warn' : status >= 300 ? 'info' : 'good';
}

const LISTS = { slowest: 'Slowest', failed: 'Failed', recent: 'Recent' } as const;

const TOLD_APART = ['id', 'explanation', 'waterfall', 'phases', 'tried', 'path', 'ended', 'operation', 'method', 'status', 'duration'];

function value(v: unknown): string {
  return Array.isArray(v) ? v.map(value).join(', ') : typeof v === 'object' ? JSON.stringify(v) : String(v);
}

function Explained({ request }: { request: Request }) {
  const facts = Object.entries(request).filter(([name, v]) => !TOLD_APART.includes(name) && v !== null && v !== '');
  return (
    <div class="explained">
      <p>{request.explanation}</p>
      {request.tried.length > 1 && (
        <ol class="tried">
          {request.tried.map((one) => (
            <li>
              Attempt {one.attempt}, {show.duration(one.at)} after the start: {one.status || one.reason || one.outcome} after {show.duration(one.duration)}, on a {one.reused ? 'kept' : 'new'} connection
            </li>
          ))}
        </ol>
      )}
      <dl class="facts">
        <dt>ended</dt>
        <dd>{show.fullTime(Date.parse(request.ended))}</dd>
        {Object.entries(request.phases).map(([name, s]) => (
          <>
            <dt>{name.replace(/_/g, ' ')}</dt>
            <dd>{show.duration(s)}</dd>
          </>
        ))}
        {facts.map(([name, v]) => (
          <>
            <dt>{name.replace(/_/g, ' ')}</dt>
            <dd>{value(v)}</dd>
          </>
        ))}
      </dl>
    </div>
  );
}

function RequestList({ operation }: { operation: string }) {
  const { list = 'slowest', status = '' } = route.value.filters;
  const [open, setOpen] = useState('');
  const wanted = list in LISTS ? (list as keyof typeof LISTS) : 'slowest';
  const asked = { slowest: 'sort=slowest', failed: 'kept=failed', recent: 'sort=newest' }[wanted];
  const query = `limit=30&${asked}${operation ? `&operation=${encodeURIComponent(operation)}` : ''}${/^\d{3}$/.test(status) ? `&status=${status}` : ''}`;
  const shown = useFetch<{ requests: Request[] }>(`api/v1/requests?${query}`, 3).data?.requests ?? [];
  const longest = Math.max(...shown.map((one) => one.duration), 1e-6);
  return (
    <Card
      id="request-list"
      title={`${LISTS[wanted]} requests`}
      hint="Choose one for all that is known of it"
      wide
      tools={
        <>
          <div class="ranges" role="group" aria-label="Which requests">
            {(Object.keys(LISTS) as (keyof typeof LISTS)[]).map((id) => (
              <button type="button" aria-pressed={id === wanted} onClick={() => setFilter('list', id === 'slowest' ? '' : id)}>
                {LISTS[id]}
              </button>
            ))}
          </div>
          <input class="short" aria-label="Status" placeholder="Status" inputMode="numeric" maxLength={3} value={status} onInput={(event) => setFilter('status', event.currentTarget.value.replace(/\D/g, ''))} />
        </>
      }
    >
      {shown.length ? (
        <>
          <WaterfallLegend requests={shown} />
          <Table
            label={`${LISTS[wanted]} requests`}
            free
            rows={shown}
            rowKey={(one) => one.id}
            rowClass={(one) => (open === one.id ? 'open' : '')}
            detail={(one) => open === one.id && <Explained request={one} />}
            columns={[
              { name: 'Ended', class: 'when', cell: (one) => show.dayTime(Date.parse(one.ended)) },
              {
                name: 'Operation',
                lead: true,
                class: 'path',
                cell: (one) => (
                  <button type="button" class="row-opener" aria-expanded={open === one.id} onClick={() => setOpen(open === one.id ? '' : one.id)}>
                    <Icon name="arrow" size={14} />
                    <span>
                      <b>{one.operation}</b>
                      <small>
                        {one.method} {one.path}
                      </small>
                    </span>
                  </button>
                ),
              },
              { name: 'Status', cell: (one) => <Badge mood={moodOf(one.status)}>{one.status || 'none sent'}</Badge> },
              { name: 'Cache', cell: (one) => one.cache ?? '–' },
              { name: 'Took', figure: true, cell: (one) => show.duration(one.duration) },
              { name: 'Where the time went', class: 'fall', cell: (one) => <Waterfall request={one} longest={longest} /> },
            ]}
          />
        </>
      ) : (
        <Empty>{wanted === 'failed' ? 'None of the remembered requests has failed.' : operation || status ? 'None of the remembered requests is like this. Take a filter away.' : NO_TRAFFIC}</Empty>
      )}
    </Card>
  );
}

/** Statuses, the good ones in blue and green, what the client did in ochre, what failed in vermilion and purple. */
function statusColor(status: number, nth: number): number {
  if (status === 0) return 6;
  if (status >= 500) return nth % 2 ? 3 : 1;
  if (status >= 400) return 4;
  if (status >= 300) return 5;
  return status === 200 ? 0 : 2;
}

export function OperationFilter() {
  const { operation } = route.value;
  const known = (live.value.requests?.by_operation ?? []).map((one) => one.operation);
  return (
    <label class="filter">
      <span>Operation</span>
      <select value={operation} onChange={(event) => go({ operation: event.currentTarget.value })}>
        <option value="">All</option>
        {[...new Set([...known, ...(operation ? [operation] : [])])].map((name) => (
          <option value={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}

/** How many requests of each operation went well, or failed: what is not told of the failed was well. */
function well(all: Parts, failures: Parts, names: string[], failed: boolean): Pick<BarSeries, 'values' | 'before'> {
  const read = (counts: Map<string, Part>, rates: Map<string, Part>) =>
    names.map((name) => {
      const count = counts.get(name)?.count ?? 0;
      const rate = rates.get(name);
      const bad = rate ? Math.round(rate.mean * rate.count) : 0;
      return failed ? bad : count - bad;
    });
  const named = (parts: Part[]) => new Map(parts.map((part) => [part.part, part]));
  return { values: read(named(all.parts), named(failures.parts)), before: all.before && failures.before && read(all.before, failures.before) };
}

/** Of all operations in the range; of a single one they are counted since the start only. */
function Retries({ operation }: { operation: string }) {
  const inRange = useParts('RETRY_COUNT', 'reason');
  const since = new Map<string, number>();
  for (const one of live.value.requests?.retries_by_reason ?? []) if (one.operation === operation) since.set(one.reason, (since.get(one.reason) ?? 0) + one.count);
  const names = operation ? [...since.keys()] : inRange.parts.map((part) => part.part);
  const values = operation ? [...since.values()] : inRange.parts.map((part) => part.count);
  return (
    <BarChart
      id="retries"
      title="Retries by reason"
      hint={operation ? 'Since the start' : 'In the range'}
      names={names}
      what="reason"
      bars={[{ name: 'Retries', color: 1, values, before: operation ? undefined : earlier(inRange, names, 'count') }]}
      format={show.whole}
      empty="Nothing has been retried: the API answered each request at the first attempt, or the request may not be repeated."
    />
  );
}

export function Requests() {
  const { operation } = route.value;
  const throughput = useSeries('THROUGHPUT', operation);
  const latency = useSeries('REQUEST_LATENCY', operation);
  const retries = useSeries('RETRY_COUNT', operation);
  const heat = useLatencyHeat(operation);
  const byOperation = useParts('THROUGHPUT', 'operation');
  const failures = useParts('ERROR_RATE', 'operation');
  const latencies = useParts('REQUEST_LATENCY', 'operation');
  const statuses = useParts('THROUGHPUT', 'status');
  const operations = [...byOperation.parts].sort((a, b) => b.count - a.count).slice(0, 12).map((one) => one.part);
  return (
    <>
      <div class="filters">
        <OperationFilter />
      </div>
      <div class="grid">
        <TimeChart id="requests-throughput" title="Requests" hint="Finished, a second" format={show.unit('requests/second')} lines={[{ name: 'Requests a second', series: throughput, what: 'mean', color: 0, area: true }]} empty={NO_TRAFFIC} />
        <TimeChart
          id="requests-latency"
          spread
          title="Latency"
          hint="Quantiles and the longest"
          format={show.duration}
          lines={[
            { name: 'p50', series: latency, what: 'p50', color: 2 },
            { name: 'p95', series: latency, what: 'p95', color: 0 },
            { name: 'p99', series: latency, what: 'p99', color: 1 },
            { name: 'Longest', series: latency, what: 'max', color: 6, quiet: true },
          ]}
          empty={NO_TRAFFIC}
        />
        <HeatMap id="latency-heat" title="Latency over time" hint="How many requests took how long" times={heat.times} rows={heat.rows} ticks={heat.ticks} cells={heat.cells} before={heat.before} what="requests" format={show.whole} height="tall" empty={NO_TRAFFIC} />
        <BarChart id="latency-distribution" title="Latency distribution" hint="Requests by how long they took, in the range" names={heat.rows} ticks={heat.ticks} what="latency" bars={[{ name: 'Requests', color: 0, values: heat.sums, before: heat.before?.sums }]} format={show.whole} height="tall" standing empty={NO_TRAFFIC} />
        <BarChart
          id="operations"
          title="By operation"
          hint="Requests in the range; choose one to see it alone"
          names={operations}
          what="operation"
          bars={[
            { name: 'Answered well', color: 0, ...well(byOperation, failures, operations, false) },
            { name: 'Failed', color: 1, ...well(byOperation, failures, operations, true) },
          ]}
          stacked
          format={show.whole}
          onPick={(name) => go({ operation: name === operation ? '' : name })}
          empty={NO_TRAFFIC}
        />
        <BarChart
          id="operation-latency"
          title="Latency by operation"
          hint="In the range"
          names={operations}
          what="operation"
          bars={[
            { name: 'p50', color: 2, values: valuesOf(latencies.parts, operations, 'p50'), before: earlier(latencies, operations, 'p50') },
            { name: 'p95', color: 0, values: valuesOf(latencies.parts, operations, 'p95'), before: earlier(latencies, operations, 'p95') },
          ]}
          format={show.duration}
          empty={NO_TRAFFIC}
        />
        <PieChart id="statuses" title="Status codes" hint="Sent in the range, for all operations" slices={slicesOf(statuses, (name, i) => ({ name: name === '0' ? 'none sent' : name, color: statusColor(Number(name), i) }))} what="status" of="answers" empty={NO_TRAFFIC} />
        <Retries operation={operation} />
        <TimeChart id="retries-time" title="Retries" hint="In each step of time" format={show.number} wide lines={[{ name: 'Retries', series: retries, what: 'mean', color: 1, area: true }]} empty={NO_TRAFFIC} height="small" />
        <RequestList operation={operation} />
      </div>
    </>
  );
}
