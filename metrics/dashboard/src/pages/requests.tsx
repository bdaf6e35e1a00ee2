// How requests fare: how long they take, which, how they end, and where the time goes in the slowest.
import { useMemo, useState } from 'preact/hooks';
import { BarChart } from '../chart/bars';
import { HeatMap } from '../chart/heat';
import { PieChart } from '../chart/pie';
import { TimeChart } from '../chart/time';
import { useFetch } from '../fetch';
import * as show from '../format';
import { live } from '../live';
import { go, RANGES, route, setFilter } from '../route';
import { useSeries } from '../series';
import type { Request } from '../types';
import { Icon } from '../ui/icon';
import { Badge, Card, Empty } from '../ui/parts';
import { Table } from '../ui/table';
import { Waterfall, WaterfallLegend } from '../ui/waterfall';

const NO_TRAFFIC = 'No requests in this range yet. Point your application at the sidecar, or choose a longer range.';

interface Heat {
  bounds: number[];
  columns: { time: string; count: number; counts: number[] }[];
}

/** The heat map's data, and the distribution that is its sum over time. */
function useLatencyHeat(operation: string) {
  const { seconds, step } = RANGES[route.value.range];
  const columns = Math.max(step, Math.ceil(seconds / 90 / step) * step);
  const path = `api/v1/metrics/heatmap?metric_type=REQUEST_LATENCY&start_time=-${seconds}s&step=${columns}s&buckets=20${operation ? `&operation=${encodeURIComponent(operation)}` : ''}`;
  const { data } = useFetch<Heat>(path, Math.max(2, columns / 4));
  return useMemo(() => {
    const bounds = data?.bounds ?? [];
    const rows = bounds.slice(1).map((to, i) => `${show.duration(bounds[i])} – ${show.duration(to)}`);
    const found = data?.columns ?? [];
    const times = found.map((column) => Date.parse(column.time));
    const cells = found.flatMap((column, x) => column.counts.map((v, y): [number, number, number] => [x, y, v])).filter((cell) => cell[2] > 0);
    const sums = rows.map((_, i) => found.reduce((sum, column) => sum + (column.counts[i] ?? 0), 0));
    return { rows, ticks: bounds.slice(1).map((to) => `≤ ${show.duration(to)}`), times, cells, sums };
  }, [data]);
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

export function Requests() {
  const { operation } = route.value;
  const requests = live.value.requests;
  const throughput = useSeries('THROUGHPUT', operation);
  const latency = useSeries('REQUEST_LATENCY', operation);
  const retries = useSeries('RETRY_COUNT', operation);
  const heat = useLatencyHeat(operation);
  const operations = [...(requests?.by_operation ?? [])].sort((a, b) => b.requests - a.requests).slice(0, 12);
  const reasons = new Map<string, number>();
  for (const one of requests?.retries_by_reason ?? []) if (!operation || one.operation === operation) reasons.set(one.reason, (reasons.get(one.reason) ?? 0) + one.count);
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
        <HeatMap id="latency-heat" title="Latency over time" hint="How many requests took how long" times={heat.times} rows={heat.rows} ticks={heat.ticks} cells={heat.cells} what="requests" format={show.whole} height="tall" empty={NO_TRAFFIC} />
        <BarChart id="latency-distribution" title="Latency distribution" hint="Requests by how long they took, in the range" names={heat.rows} ticks={heat.ticks} what="latency" bars={[{ name: 'Requests', color: 0, values: heat.sums }]} format={show.whole} height="tall" standing empty={NO_TRAFFIC} />
        <BarChart
          id="operations"
          title="By operation"
          hint="Requests since the start; choose one to see it alone"
          names={operations.map((one) => one.operation)}
          what="operation"
          bars={[
            { name: 'Answered well', color: 0, values: operations.map((one) => one.requests - one.failed) },
            { name: 'Failed', color: 1, values: operations.map((one) => one.failed) },
          ]}
          stacked
          format={show.whole}
          onPick={(name) => go({ operation: name === operation ? '' : name })}
          empty={NO_TRAFFIC}
        />
        <BarChart
          id="operation-latency"
          title="Latency by operation"
          hint="Over the last five minutes"
          names={operations.map((one) => one.operation)}
          what="operation"
          bars={[
            { name: 'p50', color: 2, values: operations.map((one) => one.window.p50) },
            { name: 'p95', color: 0, values: operations.map((one) => one.window.p95) },
          ]}
          format={show.duration}
          empty={NO_TRAFFIC}
        />
        <PieChart id="statuses" title="Status codes" hint="Sent since the start" slices={(requests?.by_status ?? []).map((one, i) => ({ name: one.status ? String(one.status) : 'none sent', value: one.count, color: statusColor(one.status, i) }))} what="status" of="answers" empty={NO_TRAFFIC} />
        <BarChart id="retries" title="Retries by reason" hint="Since the start" names={[...reasons.keys()]} what="reason" bars={[{ name: 'Retries', color: 1, values: [...reasons.values()] }]} format={show.whole} empty="Nothing has been retried: the API answered each request at the first attempt, or the request may not be repeated." />
        <TimeChart id="retries-time" title="Retries" hint="In each step of time" format={show.number} wide lines={[{ name: 'Retries', series: retries, what: 'mean', color: 1, area: true }]} empty={NO_TRAFFIC} height="small" />
        <RequestList operation={operation} />
      </div>
    </>
  );
}
