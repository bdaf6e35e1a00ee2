// Every setting with its value and where that came from; what can be changed while running can be changed here.
import { useState } from 'preact/hooks';
import { send } from '../api';
import { useFetch } from '../fetch';
import { route, setFilter } from '../route';
import type { Option, Options } from '../types';
import { Badge, Button, Card, Empty } from '../ui/parts';
import { Table } from '../ui/table';
import { attempt } from '../ui/toast';

const text = (value: unknown) => (Array.isArray(value) ? `[${value.map((one) => (typeof one === 'object' ? JSON.stringify(one) : String(one))).join(', ')}]` : typeof value === 'object' ? JSON.stringify(value) : String(value));
const simple = (value: unknown) => typeof value !== 'object' || (Array.isArray(value) && value.every((one) => typeof one !== 'object'));

type Setting = [name: string, option: Option];

/** What is typed, as PATCH wants it: a list where there was one, else the text as a file would have it. */
function typed(option: Option, given: string): unknown {
  if (typeof option.value === 'boolean') return given === 'true';
  if (!Array.isArray(option.value)) return given;
  return given
    .replace(/^\[|\]$/g, '')
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean);
}

/** The field in which a value is changed; it begins with the value in force. */
function Editor({ name, option, onSave, onCancel }: { name: string; option: Option; onSave: (given: string) => void; onCancel: () => void }) {
  const [draft, setDraft] = useState(text(option.value));
  return (
    <form
      class="inline"
      onKeyDown={(event) => event.key === 'Escape' && onCancel()}
      onSubmit={(event) => {
        event.preventDefault();
        onSave(draft);
      }}
    >
      {typeof option.value === 'boolean' ? (
        <select aria-label={name} value={draft} autofocus onChange={(event) => setDraft(event.currentTarget.value)}>
          <option value="true">true</option>
          <option value="false">false</option>
        </select>
      ) : (
        <input aria-label={name} value={draft} autofocus spellcheck={false} onInput={(event) => setDraft(event.currentTarget.value)} />
      )}
      <button type="submit" class="button primary">
        Save
      </button>
      <Button onClick={onCancel}>Cancel</Button>
    </form>
  );
}

export function Configuration() {
  const { data, error, again } = useFetch<{ options: Options }>('api/v1/config', 15);
  const [edited, setEdited] = useState('');
  const { find = '', only = '' } = route.value.filters;
  const all: Setting[] = Object.entries(data?.options ?? {});
  const list = all.filter(([name, option]) => `${name} ${option.help}`.toLowerCase().includes(find.toLowerCase()) && (only !== 'changed' || option.origin !== 'default') && (only !== 'live' || option.live));
  const save = async (name: string, value: unknown, done: string) => {
    if (!(await attempt(() => send('PATCH', 'api/v1/config', { [name]: value }), done))) return;
    setEdited('');
    again();
  };
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
        <Table<Setting>
          label="Configuration"
          free
          rows={list}
          rowKey={([name]) => name}
          rowClass={([, option]) => (option.origin === 'default' ? '' : 'changed')}
          columns={[
            { name: 'Setting', lead: true, class: 'setting', cell: ([name, option]) => [<code>{name}</code>, <div class="soft">{option.help}</div>] },
            {
              name: 'Value',
              class: 'path',
              cell: ([name, option]) =>
                edited === name ? (
                  <Editor name={name} option={option} onCancel={() => setEdited('')} onSave={(given) => void save(name, typed(option, given), `${name} is ${given} now.`)} />
                ) : (
                  <code>{text(option.value) || '""'}</code>
                ),
            },
            { name: 'From', cell: ([, option]) => <Badge mood={option.origin === 'default' ? 'quiet' : 'info'}>{option.origin}</Badge> },
            {
              name: 'Change',
              acts: true,
              cell: ([name, option]) =>
                !option.live ? (
                  <span class="soft">at a restart</span>
                ) : edited === name ? null : (
                  <>
                    {simple(option.value) && (
                      <button type="button" class="plain-button" aria-label={`Change ${name}`} onClick={() => setEdited(name)}>
                        Change
                      </button>
                    )}
                    {option.origin === 'admin' && (
                      <button type="button" class="plain-button" aria-label={`Take the change of ${name} back`} onClick={() => void save(name, null, `${name} is as before.`)}>
                        Take back
                      </button>
                    )}
                  </>
                ),
            },
          ]}
        />
      ) : (
        <Empty>{error || (data ? 'No setting is like this. Take a filter away.' : 'Loading…')}</Empty>
      )}
    </Card>
  );
}
