import { render } from 'preact';
import { App } from './app';
import { refreshColors } from './chart/colors';
import { start } from './live';

refreshColors();
render(<App />, document.getElementById('app') as HTMLElement);
start();
// The charts' code comes after the page stands.
requestAnimationFrame(() => setTimeout(() => void import('./chart/echarts')));
