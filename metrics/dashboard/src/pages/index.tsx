import { Overview } from './overview';

export const lazyPages = {
  overview: Overview,
  requests: Overview,
  cache: Overview,
  network: Overview,
  alerts: Overview,
  recommendations: Overview,
  configuration: Overview,
};
