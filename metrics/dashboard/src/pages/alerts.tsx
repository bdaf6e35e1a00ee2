// What is wrong, what was, who is told; silencing and switching alerts.
import { useState } from 'preact/hooks';
import { send } from '../api';
import { BarChart } from '../chart/bars';
import { useFetch } from '../fetch';
import * as show from '../format';
import { live, now, refreshNow } from '../live';
import { RANGES, route, setFilter } from '../route';
import type { Alert, AlertEvent } from '../types';
import { Badge, Button, Card, Empty, Tile } from '../ui/parts';
import { Icon } from '../ui/icon';
import { Table } from '../ui/table';
import { attempt } from '../ui/toast';

type Mood = 'good' | 'info' | 'warn' | 'bad' | 'quiet';
const SEVERITIES: Record<Alert['severity'], Mood> = { info: 'info', warning: 'warn', error: 'bad', critical: 'bad' };
const UNITS: Record<string, string> = { REQUEST_LATENCY: 'seconds', NETWORK_LATENCY: 'seconds', CACHE_HIT_RATE: 'ratio', ERROR_RATE: 'ratio', CPU_USAGE: 'percent', MEMORY_USAGE: 'MB', THROUGHPUT: 'requests/second', QUOTA_REMAINING: 'ratio' };

const shown = (alert: { metric_type: string }, v: number | null) => show.unit(UNITS[alert.metric_type] ?? '')(v);

async function act(what: () => Promise<unknown>, done: string): Promise<void> {
  if (await attempt(what, done)) refreshNow();
}

const silence = (alert: Alert, seconds: number) =>
  act(() => send('POST', `api/v1/alerts/${encodeURIComponent(alert.id)}/silence`, { seconds }), seconds ? `${alert.id} is silent for ${show.duration(seconds)}.` : `${alert.id} is not silent any more.`);

const enable = (alert: Alert, enabled: boolean) => act(() => send('PUT', `api/v1/alerts/${encodeURIComponent(alert.id)}`, { enabled }), `${alert.id} is ${enabled ? 'on' : 'off'}, until the process ends.`);

function silenced(alert: Alert): boolean {
  return alert.silenced_until !== null && Date.parse(alert.silenced_until) > now.value;
}

function Active({ alerts }: { alerts: Alert[] }) {
  return (
    <Card id="active-alerts" title="Active" wide>
      {alerts.length ? (
        <ul class="active">
          {alerts.map((alert) => (
            <li class={SEVERITIES[alert.severity]}>
              <Icon name={silenced(alert) ? 'mute' : 'warning'} size={20} />
              <div class="active-words">
                <b>{alert.message}</b>
                <span>
                  <Badge mood={SEVERITIES[alert.severity]}>{alert.severity}</Badge> <Badge mood="quiet">{alert.state}</Badge> {alert.id}: now {shown(alert, alert.value)}, raised at {alert.condition.split(' ')[0]} {shown(alert, alert.threshold)}, since {show.dayTime(Date.parse(alert.since))} (
                  {show.ago(Date.parse(alert.since), now.value)})
                </span>
              </div>
              <div class="row-buttons">
                {silenced(alert) ? (
                  <Button icon="bell" onClick={() => void silence(alert, 0)}>
                    End the silence
                  </Button>
                ) : (
                  <>
                    <Button icon="mute" label={`Silence ${alert.id} for 1 hour`} onClick={() => void silence(alert, 3600)}>
                      Silence 1 h
                    </Button>
                    <Button icon="mute" label={`Silence ${alert.id} for 1 day`} onClick={() => void silence(alert, 86400)}>
                      1 day
                    </Button>
                  </>
                )}
              </div>
            </li>
          ))}
        </ul>
      ) : (
        <Empty>Nothing is wrong. Alerts that fire show here, and go to the receivers below.</Empty>
      )}
    </Card>
  );
}

function Rules({ alerts }: { alerts: Alert[] }) {
  const [wanted, setWanted] = useState('');
  const rank = (alert: Alert) => ['firing', 'pending'].indexOf(alert.state) & 3; // -1, none of these, comes last
  const sorted = [...alerts].sort((a, b) => rank(a) - rank(b));
  const found = sorted.filter((alert) => `${alert.id} ${alert.message} ${alert.metric_type}`.toLowerCase().includes(wanted.toLowerCase()));
  return (
    <Card id="alert-rules" title="All alerts" hint="Built in, and your own" wide tools={<input aria-label="Find an alert" placeholder="Find" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />}>
      <Table
        label="All alerts"
        free
        rows={found}
        rowKey={(alert) => alert.id}
        columns={[
          { name: 'Alert', lead: true, cell: (alert) => [<b>{alert.id}</b>, <div class="soft">{alert.message}</div>] },
          {
            name: 'Condition',
            cell: (alert) => (
              <>
                {alert.metric_name ?? alert.metric_type} {alert.condition.split(' ')[0]} {shown(alert, alert.threshold)}
                {alert.for > 0 && <span class="soft"> for {show.duration(alert.for)}</span>}
              </>
            ),
          },
          { name: 'Now', figure: true, cell: (alert) => shown(alert, alert.value) },
          {
            name: 'State',
            cell: (alert) => (
              <>
                {!alert.enabled ? <Badge mood="quiet">off</Badge> : <Badge mood={alert.state === 'firing' ? SEVERITIES[alert.severity] : alert.state === 'pending' ? 'warn' : 'good'}>{alert.state}</Badge>} {silenced(alert) && <Badge mood="info">silent</Badge>}
              </>
            ),
          },
          { name: 'Raised', figure: true, cell: (alert) => `${show.whole(alert.raised)}×` },
          {
            name: 'Change',
            acts: true,
            cell: (alert) => (
              <button type="button" class="plain-button" aria-label={`Switch ${alert.id} ${alert.enabled ? 'off' : 'on'}`} onClick={() => void enable(alert, !alert.enabled)}>
                Switch {alert.enabled ? 'off' : 'on'}
              </button>
            ),
          },
        ]}
      />
    </Card>
  );
}

function History({ history }: { history: AlertEvent[] }) {
  const kind = route.value.filters.event ?? '';
  const list = history.filter((one) => !kind || one.event === kind);
  const kinds = [...new Set(history.map((one) => one.event))];
  return (
    <Card
      id="alert-history"
      title="History"
      hint="Newest first"
      wide
      tools={
        kinds.length > 1 && (
          <select aria-label="Which events" value={kind} onChange={(event) => setFilter('event', event.currentTarget.value)}>
            <option value="">All events</option>
            {kinds.map((one) => (
              <option value={one}>{one}</option>
            ))}
          </select>
        )
      }
    >
      {list.length ? (
        <Table
          label="History"
          rows={list}
          columns={[
            { name: 'When', class: 'when', cell: (one) => show.dayTime(Date.parse(one.at)) },
            { name: 'Alert', lead: true, cell: (one) => <b>{one.id}</b> },
            { name: 'Event', cell: (one) => <Badge mood={one.event === 'resolved' ? 'good' : SEVERITIES[one.severity]}>{one.event}</Badge> },
            { name: 'Severity', cell: (one) => one.severity },
            { name: 'Value', figure: true, cell: (one) => shown(one, one.value) },
            { name: 'Told', cell: (one) => (one.told ? 'yes' : 'no') },
          ]}
        />
      ) : (
        <Empty>No alert has been raised since the start.</Empty>
      )}
    </Card>
  );
}

function Receivers() {
  const receivers = live.value.alerts?.receivers ?? [];
  return (
    <Card id="receivers" title="Notifications" hint="Who is told, and whether it arrives">
      {receivers.length ? (
        <Table
          label="Notifications"
          rows={receivers}
          columns={[
            { name: 'Receiver', lead: true, cell: (one) => [one.host, <span class="soft"> {one.format}</span>] },
            { name: 'Sent', figure: true, cell: (one) => show.whole(one.sent) },
            { name: 'Failed', figure: true, cell: (one) => show.whole(one.failed + one.dropped) },
            { name: 'Waiting', figure: true, cell: (one) => show.whole(one.waiting) },
            { name: 'Status', cell: (one) => (one.error ? <Badge mood="bad">{one.error}</Badge> : <Badge mood="good">{one.sent ? 'arrives' : 'nothing to tell yet'}</Badge>) },
          ]}
        />
      ) : (
        <Empty>Nobody is told. Give notifications.webhooks an address: JSON, Slack or Alertmanager.</Empty>
      )}
    </Card>
  );
}

export function Alerts() {
  const told = live.value.alerts;
  const alerts = told?.alerts ?? [];
  const active = alerts.filter((alert) => alert.state === 'firing' || alert.state === 'pending');
  const history = useFetch<{ history: AlertEvent[]; total: number }>('api/v1/alerts/history?limit=200', 2).data?.history ?? [];
  const from = now.value - RANGES[route.value.range].seconds * 1000;
  const raised = new Map<string, number>();
  for (const one of history) if (one.event !== 'resolved' && Date.parse(one.at) >= from) raised.set(one.id, (raised.get(one.id) ?? 0) + 1);
  return (
    <>
      {told && !told.enabled && <div class="standing info">Alerting is off: set performance.enable_alerting.</div>}
      <div class="tiles">
        <Tile id="alerts-firing" name="Firing" value={show.whole(alerts.filter((alert) => alert.state === 'firing').length)} note={`of ${show.whole(alerts.length)} alerts`} />
        <Tile id="alerts-pending" name="Pending" value={show.whole(alerts.filter((alert) => alert.state === 'pending').length)} note="true, not yet for long enough" />
        <Tile id="alerts-silent" name="Silenced" value={show.whole(alerts.filter(silenced).length)} note="for a while" />
        <Tile id="alerts-raised" name="Raised" value={show.whole(alerts.reduce((sum, alert) => sum + alert.raised, 0))} note="since the start" />
      </div>
      <div class="grid">
        <Active alerts={active} />
        <BarChart id="raised" title="Raised" hint={`By alert, last ${RANGES[route.value.range].words}`} names={[...raised.keys()]} what="alert" bars={[{ name: 'Times', color: 1, values: [...raised.values()] }]} format={show.whole} empty="No alert was raised in this range." />
        <Receivers />
        <History history={history} />
        <Rules alerts={alerts} />
      </div>
    </>
  );
}
