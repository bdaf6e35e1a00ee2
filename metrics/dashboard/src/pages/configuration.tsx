// Every setting with its value and where that came from; what can be changed while running can be changed here.
import { useState } from 'preact/hooks';
import { send } from '../api';
import { useFetch } from '../fetch';
import { route, setFilter } from '../route';
import type { Option, Options } from '../types';
import { Badge, Button, Card, Empty } from '../ui/parts';
import { attempt } from '../ui/toast';

const text = (value: unknown) => (Array.isArray(value) ? `[${value.map((one) => (typeof one === 'object' ? JSON.stringify(one) : String(one))).join(', ')}]` : typeof value === 'object' ? JSON.stringify(value) : String(value));
const simple = (value: unknown) => typeof value !== 'object' || (Array.isArray(value) && value.every((one) => typeof one !== 'object'));

/** What is typed, as PATCH wants it: a list where there was one, else the text as a file would have it. */
function typed(option: Option, given: string): unknown {
  if (!Array.isArray(option.value)) return given;
  return given
    .replace(/^\[|\]$/g, '')
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean);
}

function Row({ name, option, again }: { name: string; option: Option; again: () => void }) {
  const [draft, setDraft] = useState<string | null>(null);
  const changed = option.origin !== 'default';
  const save = async (value: unknown, done: string) => {
    if (await attempt(() => send('PATCH', 'api/v1/config', { [name]: value }), done)) {
      setDraft(null);
      again();
    }
  };
  const input =
    typeof option.value === 'boolean' ? (
      <select aria-label={name} value={draft ?? ''} onChange={(event) => setDraft(event.currentTarget.value)}>
        <option value="true">true</option>
        <option value="false">false</option>
      </select>
    ) : (
      <input aria-label={name} value={draft ?? ''} spellcheck={false} onInput={(event) => setDraft(event.currentTarget.value)} onKeyDown={(event) => event.key === 'Escape' && setDraft(null)} />
    );
  return (
    <tr class={changed ? 'changed' : ''}>
      <td class="setting">
        <code>{name}</code>
        <div class="soft">{option.help}</div>
      </td>
      <td class="path">
        {draft === null ? (
          <code>{text(option.value) || '""'}</code>
        ) : (
          <form
            class="inline"
            onSubmit={(event) => {
              event.preventDefault();
              void save(typeof option.value === 'boolean' ? draft === 'true' : typed(option, draft), `${name} is ${draft} now.`);
            }}
          >
            {input}
            <button type="submit" class="button primary">
              Save
            </button>
            <Button onClick={() => setDraft(null)}>Cancel</Button>
          </form>
        )}
      </td>
      <td>
        <Badge mood={changed ? 'info' : 'quiet'}>{option.origin}</Badge>
      </td>
      <td class="figure">
        {draft === null && option.live && simple(option.value) && (
          <button type="button" class="plain-button" aria-label={`Change ${name}`} onClick={() => setDraft(text(option.value))}>
            Change
          </button>
        )}
        {draft === null && option.origin === 'admin' && (
          <button type="button" class="plain-button" aria-label={`Take the change of ${name} back`} onClick={() => void save(null, `${name} is as before.`)}>
            Take back
          </button>
        )}
        {!option.live && <span class="soft">at a restart</span>}
      </td>
    </tr>
  );
}

export function Configuration() {
  const { data, error, again } = useFetch<{ options: Options }>('api/v1/config', 15);
  const { find = '', only = '' } = route.value.filters;
  const all = Object.entries(data?.options ?? {});
  const list = all.filter(([name, option]) => `${name} ${option.help}`.toLowerCase().includes(find.toLowerCase()) && (only !== 'changed' || option.origin !== 'default') && (only !== 'live' || option.live));
  return (
    <Card
      id="configuration"
      title="Effective configuration"
      hint="Later ones win: defaults, file, environment, flags, what was changed here. Secrets are hidden. A change here lasts until the process ends."
      wide
      tools={
        <>
          <select aria-label="Which settings" value={only} onChange={(event) => setFilter('only', event.currentTarget.value)}>
            <option value="">All</option>
            <option value="changed">Not the default</option>
            <option value="live">Changeable now</option>
          </select>
          <input type="search" aria-label="Find a setting" placeholder="Find a setting" value={find} onInput={(event) => setFilter('find', event.currentTarget.value)} />
        </>
      }
    >
      {list.length ? (
        <div class="scroll free" tabIndex={0} role="region" aria-label="Configuration, table">
          <table class="configuration">
            <thead>
              <tr>
                <th scope="col">Setting</th>
                <th scope="col">Value</th>
                <th scope="col">From</th>
                <th scope="col">
                  <span class="unseen">Change</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map(([name, option]) => (
                <Row key={name} name={name} option={option} again={again} />
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <Empty>{error || (data ? 'No setting is like this. Take a filter away.' : 'Loading…')}</Empty>
      )}
    </Card>
  );
}
