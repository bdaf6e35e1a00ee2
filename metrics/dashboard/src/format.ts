// Numbers and times as people read them.

const NONE = '–';

function digits(v: number): string {
  const size = Math.abs(v);
  return v.toLocaleString('en', { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2 });
}

export function number(v: number | null | undefined): string {
  if (v == null || !Number.isFinite(v)) return NONE;
  const size = Math.abs(v);
  if (size >= 1e9) return `${digits(v / 1e9)}G`;
  if (size >= 1e6) return `${digits(v / 1e6)}M`;
  if (size >= 1e5) return `${digits(v / 1e3)}k`;
  return digits(v);
}

export function whole(v: number | null | undefined): string {
  return v == null || !Number.isFinite(v) ? NONE : Math.round(v).toLocaleString('en');
}

export function percent(v: number | null | undefined): string {
  if (v == null || !Number.isFinite(v)) return NONE;
  const p = v * 100;
  return `${p.toLocaleString('en', { maximumFractionDigits: p !== 0 && Math.abs(p) < 10 ? 2 : 1 })}%`;
}

/** Seconds, in the unit that fits. */
export function duration(s: number | null | undefined): string {
  if (s == null || !Number.isFinite(s)) return NONE;
  const size = Math.abs(s);
  if (size === 0) return '0 ms';
  if (size < 1e-6) return `${digits(s * 1e9)} ns`;
  if (size < 1e-3) return `${digits(s * 1e6)} µs`;
  if (size < 1) return `${digits(s * 1e3)} ms`;
  if (size < 120) return `${digits(s)} s`;
  if (size < 7200) return `${digits(s / 60)} min`;
  if (size < 172800) return `${digits(s / 3600)} h`;
  return `${digits(s / 86400)} d`;
}

/** A span of whole seconds as it is said: 3 min 41 s, 5 h 12 min; `roughly`: 3 min. For what goes by, not for what was measured. */
export function span(s: number | null | undefined, roughly = false): string {
  if (s == null || !Number.isFinite(s)) return NONE;
  const whole = Math.round(s);
  const two = (big: number, one: string, small: number, other: string) => `${big} ${one}${small && !roughly ? ` ${small} ${other}` : ''}`;
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return two(Math.floor(whole / 60), 'min', whole % 60, 's');
  if (whole < 172800) return two(Math.floor(whole / 3600), 'h', Math.floor((whole % 3600) / 60), 'min');
  return two(Math.floor(whole / 86400), 'd', Math.floor((whole % 86400) / 3600), 'h');
}

/** A step for an axis of bytes up to `most`, at which its labels are round numbers. */
export function byteStep(most: number): number | undefined {
  return most > 0 ? 2 ** Math.ceil(Math.log2(most / 4)) : undefined;
}

export function bytes(v: number | null | undefined): string {
  if (v == null || !Number.isFinite(v)) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; v >= 1024 && i < units.length - 1; i++) v /= 1024;
  return `${digits(v)} ${units[i]}`;
}

/** Times are shown in the viewer's own zone. */
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
const minute = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long', hour12: false });

export const time = (ms: number): string => clock.format(ms);
export const shortTime = (ms: number): string => minute.format(ms);
export const fullTime = (ms: number): string => full.format(ms);
export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** A time with its day when that is not today. */
export function dayTime(ms: number): string {
  return new Date(ms).toDateString() === new Date().toDateString() ? clock.format(ms) : `${day.format(ms)} ${clock.format(ms)}`;
}

export function ago(ms: number, now = Date.now()): string {
  const s = Math.max(0, (now - ms) / 1000);
  if (s < 2) return 'just now';
  return `${span(s < 120 ? s : s < 7200 ? Math.round(s / 60) * 60 : Math.round(s / 3600) * 3600)} ago`;
}

/** UNIT as the API names it, as a formatter. */
export function unit(name: string): (v: number | null | undefined) => string {
  switch (name) {
    case 'seconds':
      return duration;
    case 'ratio':
      return percent;
    case 'percent':
      return (v) => (v == null ? NONE : `${digits(v)}%`);
    case 'MB':
      return (v) => (v == null ? NONE : `${digits(v)} MB`);
    case 'bytes':
      return bytes;
    case 'requests/second':
      return (v) => (v == null ? NONE : `${number(v)}/s`);
    default:
      return number;
  }
}
