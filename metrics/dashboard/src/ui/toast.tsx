// What became of an action, said once and read out.
import { effect, signal } from '@preact/signals';
import { sentence } from '../api';
import { event } from '../live';
import { Icon } from './icon';

const said = signal<{ text: string; bad: boolean } | null>(null);
let timer: ReturnType<typeof setTimeout> | undefined;

export function say(text: string, bad = false): void {
  said.value = { text, bad };
  clearTimeout(timer);
  timer = setTimeout(() => (said.value = null), bad ? 12_000 : 5_000);
}

/** Does it, and says how it went. True when it went well. */
export async function attempt(what: () => Promise<unknown>, done: string): Promise<boolean> {
  try {
    await what();
    say(done);
    return true;
  } catch (error) {
    say(sentence(error), true);
    return false;
  }
}

/** Says what the sidecar tells at once. */
export function followEvents(): void {
  effect(() => {
    const { kind, data } = event.value ?? { kind: '', data: {} };
    if (kind === 'alert' && data.event === 'raised') say(`Alert raised: ${String(data.id)}`, true);
    if (kind === 'alert' && data.event === 'resolved') say(`Alert resolved: ${String(data.id)}`);
    if (kind === 'breaker') say(`Circuit ${String(data.name)}: ${String(data.to)}`, data.to === 'open');
  });
}

export function Toast() {
  const now = said.value;
  return (
    <div class="toasts" role="status" aria-live="polite">
      {now && (
        <div class={`toast ${now.bad ? 'bad' : ''}`}>
          <Icon name={now.bad ? 'warning' : 'check'} />
          <span>{now.text}</span>
          <button type="button" aria-label="Close" onClick={() => (said.value = null)}>
            <Icon name="close" size={16} />
          </button>
        </div>
      )}
    </div>
  );
}
