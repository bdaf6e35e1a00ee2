// The frame of the page: where one goes, the range, what is live, and the login where one is asked for.
import { useEffect, useRef } from 'preact/hooks';
import { contents } from './pages';
import { doorKnown, loginWanted, logout } from './api';
import { setTheme, theme, type Theme } from './chart/colors';
import { ago, zone } from './format';
import { heardAt, interval, live, now, paused, refreshNow, state, trouble } from './live';
import { format, go, PAGES, RANGES, route, type Page, type RangeId } from './route';
import { Icon, type IconName } from './ui/icon';
import { Login, sessionHeld } from './ui/login';
import { Toast } from './ui/toast';

const NAMES: Record<Page, string> = {
  overview: 'Overview',
  requests: 'Requests',
  cache: 'Cache',
  network: 'Network',
  alerts: 'Alerts',
  recommendations: 'Recommendations',
  configuration: 'Configuration',
};

function badge(page: Page): number {
  if (page === 'alerts') return live.value.alerts?.alerts.filter((alert) => alert.state === 'firing').length ?? 0;
  if (page === 'recommendations') return live.value.recommendations?.recommendations.filter((one) => one.state === 'proposed').length ?? 0;
  return 0;
}

function Navigation() {
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    bar.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
  }, [route.value.page]);
  return (
    <nav class="pages" aria-label="Dashboards" ref={bar}>
      <div>
        {PAGES.map((page) => {
        const count = badge(page);
        const current = route.value.page === page;
        return (
          <a
            href={format({ ...route.value, page, filters: {} })}
            aria-current={current ? 'page' : undefined}
            onClick={(event) => {
              if (event.metaKey || event.ctrlKey || event.shiftKey) return;
              event.preventDefault();
              go({ page, filters: {} });
              scrollTo(0, 0);
            }}
          >
            <Icon name={page} />
            <span>{NAMES[page]}</span>
            {count > 0 && (
              <b class={page === 'alerts' ? 'count bad' : 'count'} aria-label={page === 'alerts' ? `${count} firing` : `${count} open`}>
                {count}
              </b>
            )}
          </a>
        );
      })}
      </div>
    </nav>
  );
}

const STATES = {
  connecting: 'Connecting',
  live: 'Live',
  stale: 'Stale',
  lost: 'Not connected',
  paused: 'Paused',
};

function Link() {
  const is = state.value;
  const heard = heardAt.value;
  const detail = is === 'live' ? `every ${interval.value} s` : heard ? `as of ${ago(heard, now.value)}` : '';
  return (
    <div class={`link ${is}`} id="link" role="status">
      <i />
      <span>{STATES[is]}</span>
      {detail && <small>{detail}</small>}
    </div>
  );
}

const THEMES: Theme[] = ['auto', 'light', 'dark'];
const THEME_ICONS: Record<Theme, IconName> = { auto: 'auto', light: 'sun', dark: 'moon' };

function Controls() {
  const { range, compare, page } = route.value;
  const timed = page !== 'configuration';
  const nextTheme = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] as Theme;
  return (
    <div class="controls">
      {timed && (
        <div class="ranges" role="group" aria-label="Range">
          {(Object.keys(RANGES) as RangeId[]).map((id) => (
            <button type="button" aria-pressed={id === range} aria-label={`Last ${RANGES[id].words}`} onClick={() => go({ range: id })}>
              {id}
            </button>
          ))}
        </div>
      )}
      {timed && (
        <button type="button" class="tool" aria-pressed={compare} title="Compare with the period before" onClick={() => go({ compare: !compare })}>
          <Icon name="compare" />
          <span>Compare</span>
        </button>
      )}
      <button type="button" class="tool" id="pause" aria-pressed={paused.value} title={paused.value ? 'Go on' : 'Pause'} onClick={() => (paused.value = !paused.value)}>
        <Icon name={paused.value ? 'play' : 'pause'} />
        <span>{paused.value ? 'Resume' : 'Pause'}</span>
      </button>
      <button type="button" class="tool" title={`Theme: ${theme.value}`} aria-label={`Theme: ${theme.value}. Change to ${nextTheme}`} onClick={() => setTheme(nextTheme)}>
        <Icon name={THEME_ICONS[theme.value]} />
      </button>
      {sessionHeld.value && (
        <button type="button" class="tool" onClick={() => void logout().finally(() => (sessionHeld.value = false))}>
          Log out
        </button>
      )}
    </div>
  );
}

function Trouble() {
  const is = state.value;
  if (is !== 'lost' && is !== 'stale') return null;
  const heard = heardAt.value;
  return (
    <div class="trouble" role="alert">
      <Icon name="warning" />
      <p>
        <b>{trouble.value || 'Nothing new came for a while.'}</b> {heard ? `What is shown is of ${ago(heard, now.value)}.` : ''} Trying again by itself.
      </p>
      <button type="button" class="button" onClick={refreshNow}>
        Try now
      </button>
    </div>
  );
}

export function App() {
  if (loginWanted.value) return <Login />;
  const { page } = route.value;
  const Content = contents[page];
  const firing = badge('alerts');
  document.title = `${firing ? `(${firing}) ` : ''}${NAMES[page]} · PromptOps sidecar`;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById('main')?.focus())}>
        Skip to the content
      </a>
      <header class="top">
        <div class="brand">
          <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="8" />
            <path d="M8 21V11m0 5h6l3-5 3 10 2.5-5H25" fill="none" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round" />
          </svg>
          <span>
            <b>PromptOps</b> sidecar
          </span>
        </div>
        <Link />
        <Controls />
      </header>
      <Navigation />
      <main id="main" tabIndex={-1}>
        <h1 class="unseen">{NAMES[page]}</h1>
        <Trouble />
        {doorKnown.value && <Content />}
        <footer class="foot">
          Times are in {zone}. Drag across a chart to zoom; arrow keys move along it.
        </footer>
      </main>
      <Toast />
    </>
  );
}
