import { render } from 'preact';
import { App } from './app';
import { refreshColors } from './chart/colors';
import { doorKnown, sessionIsHeld } from './api';
import { start } from './live';
import { sessionHeld } from './ui/login';
import { followEvents } from './ui/toast';

refreshColors();
render(<App />, document.getElementById('app') as HTMLElement);
followEvents();
void sessionIsHeld()
  .then((held) => (sessionHeld.value = held))
  .catch(() => undefined) // said by the first refresh
  .finally(() => {
    doorKnown.value = true;
    start();
  });
// The charts' code comes after the page stands.
requestAnimationFrame(() => setTimeout(() => void import('./chart/echarts')));
