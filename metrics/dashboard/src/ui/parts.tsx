// The small parts that pages are put together from.
import type { ComponentChildren } from 'preact';
import { Icon, type IconName } from './icon';

/** A number with its name, what it was a period before, and its course. */
export function Tile(props: { id: string; name: string; value: string; note?: string; course?: number[]; change?: { text: string; mood: 'good' | 'bad' | 'same' } }) {
  return (
    <div class={`tile ${props.course ? '' : 'bare'}`} id={props.id}>
      <div class="tile-name">{props.name}</div>
      <div class="tile-value">{props.value}</div>
      <div class="tile-foot">
        {props.change && <span class={`change ${props.change.mood}`}>{props.change.text}</span>}
        {props.note && <span>{props.note}</span>}
      </div>
      {props.course && props.course.length > 1 && <Spark values={props.course} />}
    </div>
  );
}

/** A course without axes. */
export function Spark({ values, width = 120, height = 32 }: { values: number[]; width?: number; height?: number }) {
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  const points = values.map((v, i) => `${((i / (values.length - 1)) * width).toFixed(1)},${(height - 2 - ((v - low) / span) * (height - 4)).toFixed(1)}`);
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <polygon points={`0,${height} ${points.join(' ')} ${width},${height}`} />
      <polyline points={points.join(' ')} fill="none" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

export function Card(props: { id: string; title: string; hint?: string; wide?: boolean; tools?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class={`card ${props.wide ? 'wide' : ''}`} id={props.id} aria-labelledby={`${props.id}-title`}>
      <header>
        <div class="titles">
          <h2 id={`${props.id}-title`}>{props.title}</h2>
          {props.hint && <p>{props.hint}</p>}
        </div>
        {props.tools && <div class="tools shown">{props.tools}</div>}
      </header>
      {props.children}
    </section>
  );
}

export function Badge({ mood, children }: { mood: 'good' | 'warn' | 'bad' | 'info' | 'quiet'; children: ComponentChildren }) {
  return <span class={`badge ${mood}`}>{children}</span>;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** A share as a bar; the words beside it say the number. */
export function Meter({ name, note, value, max, text, mood }: { name: string; note?: string; value: number; max: number; text: string; mood: 'good' | 'warn' | 'bad' | 'plain' }) {
  const share = max > 0 ? Math.max(0, Math.min(1, value / max)) : 0;
  return (
    <div class="meter">
      <div class="meter-words">
        <span>
          {name}
          {note && <small class="soft"> {note}</small>}
        </span>
        <b>{text}</b>
      </div>
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label={`${name}: ${text}${note ? `, ${note}` : ''}`}>
        <rect class="rest" width="100" height="6" rx="1" />
        <rect class={mood} width={100 * share} height="6" rx="1" />
      </svg>
    </div>
  );
}

export function Button(props: { onClick: () => void; icon?: IconName; primary?: boolean; danger?: boolean; disabled?: boolean; pressed?: boolean; label?: string; children?: ComponentChildren }) {
  return (
    <button
      type="button"
      class={`button ${props.primary ? 'primary' : ''} ${props.danger ? 'danger' : ''}`}
      onClick={props.onClick}
      disabled={props.disabled}
      aria-pressed={props.pressed}
      aria-label={props.label}
      title={props.label}
    >
      {props.icon && <Icon name={props.icon} size={16} />}
      {props.children}
    </button>
  );
}
