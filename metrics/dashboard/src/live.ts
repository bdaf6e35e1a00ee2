// What the sidecar says now: heard over its stream (a snapshot, then what changed), or asked for each refresh interval
// where no stream can be had. Says how old it is, comes back by itself when the sidecar does, and stands still while
// paused or in a hidden tab, which costs the sidecar nothing.
import { computed, effect, signal } from '@preact/signals';
import { ApiError, base, get, loginWanted, sentence } from './api';
import { RANGES, route } from './route';
import type { Snapshot, Summary } from './types';

/** The snapshot as it is now; members come with the first. */
export const live = signal<Partial<Snapshot>>({});
/** The summary over the range that is shown. */
export const summary = signal<Summary | undefined>(undefined);
/** Counts the refreshes: what is fetched besides follows it. */
export const tick = signal(0);
export const paused = signal(false);
/** Seconds between two refreshes: performance.dashboard_refresh_interval. */
export const interval = signal(5);
/** When something was last heard (this machine's clock); 0: never. */
export const heardAt = signal(0);
/** When the page began to listen, after a pause or out of sight: what is shown may be old by no fault of anybody's. */
const wokeAt = signal(Date.now());
/** Why nothing is heard; '' while all is well. */
export const trouble = signal('');
/** How it is heard. */
export const by = signal<'stream' | 'polling'>('polling');
export const now = signal(Date.now());
/** What the sidecar told at once: an alert, a breaker, a recommendation, the configuration. */
export const event = signal<{ kind: string; data: Record<string, unknown> } | null>(null);

export type State = 'connecting' | 'live' | 'stale' | 'lost' | 'paused';
export const state = computed<State>(() => {
  if (paused.value) return 'paused';
  if (trouble.value) return 'lost';
  if (!heardAt.value) return 'connecting';
  const patience = (interval.value * 2.5 + 3) * 1000;
  if (now.value - heardAt.value <= patience) return 'live';
  return now.value - wokeAt.value <= 5000 ? 'connecting' : 'stale';
});

interface Message {
  type: 'snapshot' | 'update' | 'event';
  interval?: number;
  data: Record<string, unknown>;
  event?: string;
}

let timer: ReturnType<typeof setTimeout> | undefined;
let socket: WebSocket | undefined;
let failures = 0;
let streamless = 0; // failed attempts to open the stream while the port answers: then it is asked

function stop(): void {
  clearTimeout(timer);
  const old = socket;
  socket = undefined;
  if (old?.readyState === WebSocket.CONNECTING) old.onopen = () => old.close(1000); // a browser complains of less
  else old?.close(1000);
}

function again(): void {
  clearTimeout(timer);
  timer = setTimeout(() => void connect(), Math.min(10, 2 ** Math.min(failures, 4) / 2) * 1000);
}

/** All that was heard is taken over at once; then what follows the ticks is fetched. */
async function heard(data: Record<string, unknown>, every: number | undefined): Promise<void> {
  live.value = { ...live.value, ...data };
  if (every) interval.value = every;
  try {
    summary.value = await get<Summary>(`api/v1/summary?window=${RANGES[route.value.range].seconds}s`);
    failures = 0;
    trouble.value = '';
    heardAt.value = Date.now();
    tick.value++;
  } catch (error) {
    lose(error);
  }
}

function lose(error: unknown): void {
  failures++;
  trouble.value = error instanceof ApiError && error.status === 401 ? '' : sentence(error);
}

function listen(): void {
  const address = new URL('api/v1/stream', base);
  address.protocol = address.protocol.replace('http', 'ws');
  const mine = new WebSocket(address);
  socket = mine;
  by.value = 'stream';
  let told = false;
  mine.onmessage = (message) => {
    if (socket !== mine) return;
    const said = JSON.parse(String(message.data)) as Message;
    if (said.type === 'event') {
      event.value = { kind: said.event ?? '', data: said.data };
      if (interval.peek() <= 2) return; // the next update tells it soon enough
      void get<Snapshot>('api/v1/snapshot').then((snapshot) => heard({ ...snapshot }, snapshot.service.refresh_interval), lose);
      return;
    }
    told = true;
    streamless = 0;
    void heard(said.data, said.interval);
  };
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = undefined;
    if (!told) streamless++;
    void connect(); // asks by HTTP first: that says what is wrong
  };
}

/** One round: what there is, by HTTP; then the stream, or the next round in a while. */
async function connect(): Promise<void> {
  stop();
  if (loginWanted.value || paused.value || document.hidden) return;
  try {
    const snapshot = await get<Snapshot>('api/v1/snapshot');
    await heard({ ...snapshot }, snapshot.service.refresh_interval);
  } catch (error) {
    lose(error);
  }
  if (loginWanted.value || paused.value || socket) return;
  if (failures) return again();
  if (streamless < 3 && live.value.service?.live) return listen();
  by.value = 'polling';
  clearTimeout(timer);
  timer = setTimeout(() => void connect(), interval.value * 1000);
}

export function refreshNow(): void {
  void connect();
}

function turned(): void {
  if (document.hidden) return stop();
  now.value = wokeAt.value = Date.now();
  refreshNow();
}

export function start(): void {
  setInterval(() => document.hidden || (now.value = Date.now()), 1000);
  document.addEventListener('visibilitychange', turned);
  addEventListener('online', refreshNow);
  let last: unknown;
  let shown: unknown;
  effect(() => {
    const wanted = `${loginWanted.value} ${paused.value}`;
    const range = route.value.range;
    if (wanted === last) {
      if (range !== shown && heardAt.peek()) void heard({}, undefined); // the summary of another range
    } else if (paused.value) {
      stop();
    } else {
      wokeAt.value = Date.now();
      refreshNow();
    }
    last = wanted;
    shown = range;
  });
}
