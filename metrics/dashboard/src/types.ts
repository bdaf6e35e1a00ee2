// The answers of the admin port, as far as the page reads them.

export interface Spread {
  mean: number | null;
  p50: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  max: number | null;
  count: number;
}

export interface Summary {
  window: number;
  uptime: number;
  cache_hit_rate: number | null;
  error_rate: number | null;
  throughput: number | null;
  request_latency: Spread;
  upstream_latency: Spread;
  network_latency: number | null;
  memory_usage_mb: number | null;
  cpu_usage: number | null;
  active_requests: number;
  connection_pool_size: number;
  retry_count: number;
  batch_size: number | null;
  compression_ratio: number | null;
  requests_total: number;
  requests_failed: number;
  upstream_requests_total: number;
  cost: { fetch_seconds_saved: number; requests_saved: number; bytes_saved: number };
}

export interface Alert {
  id: string;
  metric_type: string;
  metric_name: string | null;
  condition: string;
  threshold: number;
  severity: 'info' | 'warning' | 'error' | 'critical';
  message: string;
  enabled: boolean;
  state: 'inactive' | 'pending' | 'firing' | 'resolved';
  value: number | null;
  since: string;
  raised: number;
  told?: boolean;
  for: number;
  cooldown_period: number;
  origin: string;
  group?: string;
  silenced_until: string | null;
}

export interface Receiver {
  host: string;
  format: string;
  waiting: number;
  sent: number;
  failed: number;
  dropped: number;
  error: string | null;
}

export interface AlertEvent {
  id: string;
  event: string;
  at: string;
  began: string;
  metric_type: string;
  condition: string;
  value: number | null;
  severity: Alert['severity'];
  told: boolean;
}

export interface Alerts {
  enabled: boolean;
  firing?: number;
  alerts: Alert[];
  receivers?: Receiver[];
}

export interface Recommendation {
  id: string;
  strategy: string;
  category: string;
  title: string;
  description: string;
  impact: 'low' | 'medium' | 'high';
  effort: string;
  confidence: number;
  current_value: number;
  target_value: number;
  estimated_improvement: string;
  estimate: { improvement: number; margin: number; of: string };
  evidence: { because: string; windows: number; requests_in_the_last: number };
  change: { key: string; from: string; to: string };
  state: string;
  measured_improvement: number | null;
  experiment?: { verdict: string; pairs: number; pairs_in_all: number; margin: number | null; why: string | null };
}

export interface Advice {
  enabled: boolean;
  auto_apply: boolean;
  experiment: string | null;
  recommendations: Recommendation[];
}

export interface CacheView {
  entries: number;
  bytes: number;
  max_entries: number;
  max_bytes: number;
  hits: number;
  misses: number;
  stale: number;
  coalesced?: number;
  revalidated?: number;
  stored: number;
  evictions: number;
  expired?: number;
  invalidated?: number;
  shared?: Record<string, unknown> | null;
  enabled: boolean;
  tiers: { tier: string; entries: number; bytes?: number }[];
  saved: { seconds: number; requests: number; bytes: number };
  prefetch: { issued: number; used: number; accuracy: number | null };
}

export interface Entry {
  uri: string;
  status: number;
  bytes: number;
  hits: number;
  age: number;
  ttl: number;
  tier: string;
  cost?: number;
}

export interface Curve {
  max_entries: number;
  max_bytes: number;
  sampled: number;
  points: { [member: string]: number }[];
}

export interface Pool {
  idle: number;
  active: number;
  connecting: number;
  waiting: number;
  permits: number;
  max_size: number;
  opened: number;
  closed: number;
  reused: number;
  dns: { addresses: number; version: number; lookups: number; failures: number; error: string };
}

export interface Circuit {
  state: 'closed' | 'open' | 'half-open' | 'half_open';
  cause: string;
  opened: number;
  seconds_in_state: number;
  failure_rate?: number;
  retry_budget?: number;
}
export type Circuits = Record<string, Circuit>;

export interface QuotaWindow {
  window: string;
  limit: number;
  remaining: number;
  length: number;
  resets_in: number;
  source: string;
}

export interface Limits {
  enabled: boolean;
  mode: string;
  keys: { key: string; windows: QuotaWindow[]; in_flight: number; waiting: number; next_in: number; sent: number; waited: number; refused: number; upstream_refusals: number }[];
  without_key?: { in_flight: number; sent: number };
  concurrency?: { mode: string; limit: number; healthy: number; in_flight: number; waiting: number; waited: number; refused: number };
}

export interface Option {
  value: unknown;
  origin: string;
  live: boolean;
  default: unknown;
  help: string;
  secret?: boolean;
}
export type Options = Record<string, Option>;

export interface SeriesAnswer {
  metric_type: string;
  unit: string;
  operation: string | null;
  start_time: string;
  end_time: string;
  step: number;
  points: { time: string; count: number; min: number; max: number; mean: number; p50: number; p95: number; p99: number }[];
}

export interface Part {
  part: string;
  count: number;
  min: number;
  max: number;
  mean: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface PartsAnswer {
  metric_type: string;
  by: string;
  parts: Part[];
}

export interface Request {
  ended: string;
  request_id: string;
  operation: string;
  method: string;
  path: string;
  status: number;
  reason: string | null;
  cache: string | null;
  failed: boolean;
  attempts: number;
  retries: number;
  bytes_in: number;
  bytes_out: number;
  duration: number;
  id: string;
  phases: Record<string, number>;
  waterfall: { phase: string; duration: number }[];
  tried: { attempt: number; at: number; duration: number; status: number; reason: string | null; outcome: string; reused: boolean }[];
  explanation: string;
  [member: string]: unknown;
}

export interface Operation {
  operation: string;
  requests: number;
  failed: number;
  asked_of_cache: number;
  answered_from_cache: number;
  retries: number;
  window: { seconds: number; throughput: number | null; count: number; mean: number | null; p50: number | null; p95: number | null; p99: number | null; max: number | null };
}

export interface CircuitChange {
  time: string;
  name: string;
  from: string;
  to: string;
  cause: string | null;
}

/** GET /api/v1/snapshot, which the stream tells first. */
export interface Snapshot {
  time: string;
  service: { name: string | null; version: string; upstream: string | null; workers: number; ready: boolean; why: string | null; started: number | null; measuring: boolean; live: boolean; refresh_interval: number };
  summary: Summary;
  requests: {
    active: number;
    by_operation: Operation[];
    by_status: { status: number; count: number }[];
    by_cache: { cache: string; count: number }[];
    retries_by_reason: { operation: string; reason: string; count: number }[];
    upstream_by_outcome: { operation: string; outcome: string; count: number }[];
    distribution: { window: number; buckets: { from: number; to: number; count: number }[] };
    slowest: Request[];
    failed: Request[];
  };
  cache: CacheView;
  network: {
    pool?: Pool;
    phases: Record<string, Spread>;
    circuit?: Circuits;
    circuit_history?: { total: number; changes: CircuitChange[] };
    rate_limits?: Limits;
  };
  process: { cpu_seconds: number; resident_bytes: number; virtual_bytes: number; open_files: number; max_files: number; threads: number; history_bytes?: number };
  alerts: Alerts;
  recommendations: Advice;
}
