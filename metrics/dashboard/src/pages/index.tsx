import type { ComponentType } from 'preact';
import type { Page } from '../route';
import { Alerts } from './alerts';
import { Cache } from './cache';
import { Configuration } from './configuration';
import { Network } from './network';
import { Overview } from './overview';
import { Recommendations } from './recommendations';
import { Requests } from './requests';

export const contents: Record<Page, ComponentType> = {
  overview: Overview,
  requests: Requests,
  cache: Cache,
  network: Network,
  alerts: Alerts,
  recommendations: Recommendations,
  configuration: Configuration,
};
