// The colours that charts are drawn with: those of the style sheet, read again when the theme changes.
import { signal } from '@preact/signals';

export interface Colors {
  series: string[]; // told apart by the colour-blind: blue, vermilion, green, purple, ochre, sky, grey, brown
  good: string;
  warn: string;
  bad: string;
  ink: string;
  soft: string; // labels
  line: string;
  surface: string;
  heat: string[]; // from nothing to most
  dark: boolean;
}

export type Theme = 'auto' | 'light' | 'dark';
const KEY = 'promptops-dashboard-theme';
const dark = matchMedia('(prefers-color-scheme: dark)');

function stored(): Theme {
  try {
    const found = localStorage.getItem(KEY);
    return found === 'light' || found === 'dark' ? found : 'auto';
  } catch {
    return 'auto';
  }
}

export const theme = signal<Theme>(stored());

function read(): Colors {
  const isDark = theme.value === 'dark' || (theme.value === 'auto' && dark.matches);
  document.documentElement.dataset.theme = isDark ? 'dark' : 'light';
  const style = getComputedStyle(document.documentElement);
  const get = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const list = (name: string, n: number) => Array.from({ length: n }, (_, i) => get(`${name}-${i + 1}`));
  return {
    series: list('series', 8),
    good: get('good'),
    warn: get('warn'),
    bad: get('bad'),
    ink: get('ink'),
    soft: get('ink-3'),
    line: get('line'),
    surface: get('surface'),
    heat: list('heat', 6),
    dark: isDark,
  };
}

export const colors = signal<Colors>(read());
export const refreshColors = (): void => void (colors.value = read());
dark.addEventListener('change', refreshColors);

export function setTheme(to: Theme): void {
  theme.value = to;
  try {
    if (to === 'auto') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, to);
  } catch {
    /* a browser that keeps nothing: then for this visit */
  }
  refreshColors();
}
