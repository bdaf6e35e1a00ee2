// What the cache does: how often it answers, what it holds and where, what another size would bring, and purging it.
import { useMemo, useState } from 'preact/hooks';
import { send } from '../api';
import { BarChart } from '../chart/bars';
import { CurveChart } from '../chart/curve';
import { HeatMap } from '../chart/heat';
import { PieChart } from '../chart/pie';
import { TimeChart } from '../chart/time';
import { useFetch } from '../fetch';
import * as show from '../format';
import { live, summary } from '../live';
import { slicesOf, useParts } from '../parts';
import { RANGES, route, setFilter } from '../route';
import { useSeries } from '../series';
import type { Curve, Entry } from '../types';
import { Confirm } from '../ui/confirm';
import { Badge, Card, Empty, Tile } from '../ui/parts';
import { Table } from '../ui/table';
import { attempt } from '../ui/toast';
import { useAccess } from './access';
import { change } from './overview';
import { OperationFilter } from './requests';

const NOTHING = 'Nothing was asked of the cache in this range. It answers GET requests that have been answered before.';
const SORTS = { hits: 'Hottest', bytes: 'Largest', cost: 'Costliest', age: 'Oldest', ttl: 'Ending soonest', uri: 'By path' } as const;
type Sort = keyof typeof SORTS;
type Kind = 'key' | 'prefix' | 'tag' | 'all';
const KINDS: Record<Kind, { words: string; example: string }> = {
  prefix: { words: 'Path prefix', example: '/v1/client/prompts/' },
  key: { words: 'Path', example: '/v1/client/prompts/greeting' },
  tag: { words: 'Tag', example: 'prompt:greeting' },
  all: { words: 'Everything', example: '' },
};

async function purge(kind: Kind, value: string): Promise<void> {
  let purged = 0;
  await attempt(async () => {
    purged = (await send<{ purged: number }>('POST', 'api/v1/cache/purge', { [kind]: kind === 'all' ? true : value })).purged;
    return purged;
  }, 'Purged.');
}

function Purge() {
  const [kind, setKind] = useState<Kind>('prefix');
  const [value, setValue] = useState('');
  const [asked, setAsked] = useState(false);
  const ready = kind === 'all' || value.trim() !== '';
  return (
    <Card id="purge" title="Purge" hint="What is purged is fetched anew at the next request">
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault();
          if (ready) setAsked(true);
        }}
      >
        <label>
          <span>What</span>
          <select value={kind} onChange={(event) => setKind(event.currentTarget.value as Kind)}>
            {(Object.keys(KINDS) as Kind[]).map((id) => (
              <option value={id}>{KINDS[id].words}</option>
            ))}
          </select>
        </label>
        {kind !== 'all' && (
          <label class="grow">
            <span>{KINDS[kind].words}</span>
            <input value={value} placeholder={KINDS[kind].example} spellcheck={false} onInput={(event) => setValue(event.currentTarget.value)} />
          </label>
        )}
        <button type="submit" class="button danger" disabled={!ready}>
          Purge
        </button>
      </form>
      {asked && (
        <Confirm
          title={kind === 'all' ? 'Purge everything?' : `Purge ${KINDS[kind].words.toLowerCase()} ${value}?`}
          words="Requests for it go to the API again, and count against its rate limit."
          yes="Purge"
          danger
          onNo={() => setAsked(false)}
          onYes={() => {
            setAsked(false);
            void purge(kind, value.trim());
          }}
        />
      )}
    </Card>
  );
}

function Entries() {
  const chosen = route.value.filters.sort ?? 'hits';
  const sort: Sort = chosen in SORTS ? (chosen as Sort) : 'hits';
  const { data, error, again } = useFetch<{ entries: Entry[]; total: number }>(`api/v1/cache/entries?sort=${sort}&limit=25`, 5);
  const entries = data?.entries ?? [];
  return (
    <Card
      id="entries"
      title="Entries"
      hint={data ? `${show.whole(Math.min(25, entries.length))} of ${show.whole(data.total)}` : undefined}
      wide
      tools={
        <label class="filter">
          <span>Order</span>
          <select value={sort} onChange={(event) => setFilter('sort', event.currentTarget.value)}>
            {(Object.keys(SORTS) as Sort[]).map((id) => (
              <option value={id}>{SORTS[id]}</option>
            ))}
          </select>
        </label>
      }
    >
      {entries.length ? (
        <Table
          label="Entries"
          free
          rows={entries}
          columns={[
            { name: 'Path', lead: true, class: 'path', cell: (entry) => entry.uri },
            { name: 'Status', cell: (entry) => entry.status },
            { name: 'Tier', cell: (entry) => entry.tier },
            { name: 'Hits', figure: true, cell: (entry) => show.whole(entry.hits) },
            { name: 'Size', figure: true, cell: (entry) => show.bytes(entry.bytes) },
            { name: 'Took the API', figure: true, cell: (entry) => show.duration(entry.cost) },
            { name: 'Age', figure: true, cell: (entry) => show.span(entry.age) },
            { name: 'Fresh for', figure: true, cell: (entry) => (entry.ttl > 0 ? show.span(entry.ttl) : <Badge mood="warn">stale</Badge>) },
            {
              name: 'Purge',
              acts: true,
              cell: (entry) => (
                <button type="button" class="plain-button" aria-label={`Purge ${entry.uri}`} onClick={() => void purge('key', entry.uri).then(again)}>
                  Purge
                </button>
              ),
            },
          ]}
        />
      ) : (
        <Empty>{error || 'Nothing is stored yet. GET requests through the sidecar fill it; see cache.enabled and cache.default_ttl when they do not.'}</Empty>
      )}
    </Card>
  );
}

const TIERS = ['hot', 'warm', 'cold', 'frozen'];
const CACHE_COLORS: Record<string, number> = { hit: 0, stale: 5, collapsed: 2, coalesced: 2, revalidated: 3, miss: 1, bypass: 6 };

export function Cache() {
  const { operation, range } = route.value;
  const hits = useSeries('CACHE_HIT_RATE', operation);
  const compression = useSeries('COMPRESSION_RATIO');
  const cache = live.value.cache;
  const about = summary.value;
  const access = useAccess();
  const verdicts = useParts('THROUGHPUT', 'cache');
  const curve = useFetch<Curve>('api/v1/cache/curve', 10).data;
  const points = useMemo(() => {
    if (!curve?.points.length) return [];
    const size = cache?.max_bytes ?? curve.max_bytes;
    const [first] = curve.points;
    const today: [number, number] = [size, (first?.hit_ratio ?? 0) - (first?.gain ?? 0)];
    return [...curve.points.map((p): [number, number] => [size * (p.factor ?? 0), p.hit_ratio ?? 0]), today].sort((a, b) => a[0] - b[0]);
  }, [curve, cache?.max_bytes]);
  const prefetch = cache?.prefetch;
  const tiers = [...(cache?.tiers ?? [])].sort((a, b) => TIERS.indexOf(a.tier) - TIERS.indexOf(b.tier));
  return (
    <>
      <div class="filters">
        <OperationFilter />
      </div>
      <div class="tiles">
        <Tile id="cache-rate" name="Hit rate" value={show.percent(about?.cache_hit_rate)} note={`last ${RANGES[range].words}`} change={change(hits, 'mean', 'more')} />
        <Tile id="cache-entries" name="Entries" value={show.whole(cache?.entries)} note={cache?.max_entries ? `of ${show.whole(cache.max_entries)}` : 'no limit'} />
        <Tile id="cache-bytes" name="Memory" value={show.bytes(cache?.bytes)} note={`of ${show.bytes(cache?.max_bytes)}`} />
        <Tile id="cache-saved" name="Calls saved" value={show.whole(cache?.saved.requests)} note={`${show.duration(cache?.saved.seconds)} of waiting`} />
        <Tile id="cache-evictions" name="Evicted" value={show.whole(cache?.evictions)} note="to make room" />
        <Tile id="cache-prefetch" name="Prefetch accuracy" value={show.percent(prefetch?.accuracy)} note={prefetch?.issued ? `${show.whole(prefetch.used)} of ${show.whole(prefetch.issued)} used` : 'none was fetched ahead'} />
      </div>
      <div class="grid">
        <TimeChart id="hit-rate" title="Hit rate" hint="Answers from the cache, of all that it was asked for" format={show.percent} max={1} lines={[{ name: 'Hit rate', series: hits, what: 'mean', color: 0, area: true }]} empty={NOTHING} />
        <PieChart id="cache-verdicts" title="Where answers came from" hint="In the range, for all operations" slices={slicesOf(verdicts, (name) => ({ name, color: CACHE_COLORS[name] ?? 4 }))} what="cache" of="answers" empty={NOTHING} />
        <HeatMap id="access" title="Access pattern" hint="Requests a second by operation, over the range" times={access.times} rows={access.rows} cells={access.cells} before={access.before} what="requests a second" format={show.number} empty={NOTHING} />
        <CurveChart
          id="curve"
          title="Hit rate by size"
          hint="Predicted from miniatures of the cache that see the same requests"
          points={points}
          x={{ name: 'Size', format: show.bytes }}
          y={{ name: 'Predicted hit rate', format: show.percent, max: 1 }}
          mark={cache ? { x: cache.max_bytes, name: 'Today' } : undefined}
          empty="The prediction begins after some hundred requests that the cache was asked for."
        />
        <BarChart
          id="tiers"
          title="Tiers"
          hint="Bytes held in each"
          names={tiers.map((tier) => `${tier.tier} (${show.whole(tier.entries)} entries)`)}
          what="tier"
          bars={[{ name: 'Bytes', color: 0, values: tiers.map((tier) => tier.bytes ?? 0) }]}
          format={show.bytes}
          empty="Nothing is stored yet."
        />
        <TimeChart id="compression" title="Compression" hint="Bytes before, over bytes after" format={show.number} lines={[{ name: 'Ratio', series: compression, what: 'mean', color: 3 }]} empty="Nothing was compressed in this range." />
        <Purge />
        <Card id="cache-counts" title="Counted" hint="Since the start">
          <dl class="facts counts">
            {(['hits', 'misses', 'stale', 'coalesced', 'revalidated', 'stored', 'expired', 'evictions', 'invalidated'] as const).map((name) => (
              <>
                <dt>{name}</dt>
                <dd class="figure">{show.whole(cache?.[name])}</dd>
              </>
            ))}
          </dl>
        </Card>
        <Entries />
      </div>
    </>
  );
}
