// What a page shows besides the snapshot and the series: fetched when it is opened, and again with the ticks.
import { useEffect, useRef, useState } from 'preact/hooks';
import { get, loginWanted, sentence } from './api';
import { paused, tick } from './live';

export interface Fetched<T> {
  data?: T;
  error: string;
  again: () => void;
}

/** GET of `path` (nothing while it is ''), again at the first tick after `seconds`. The last answer stays while the next is under way. */
export function useFetch<T>(path: string, seconds = 2): Fetched<T> {
  const [data, setData] = useState<{ path: string; answer: T }>();
  const [error, setError] = useState('');
  const [wish, setWish] = useState(0);
  const at = useRef({ path: '', time: 0, wish: 0, busy: false });
  const beat = tick.value;
  useEffect(() => {
    const last = at.current;
    const fresh = last.path === path && last.wish === wish;
    if (!path || loginWanted.value || (fresh && (last.busy || paused.value || Date.now() - last.time < seconds * 1000))) return;
    const mine = { path, wish, time: Date.now(), busy: true };
    at.current = mine;
    get<T>(path)
      .then((answer) => {
        if (at.current !== mine) return;
        setData({ path, answer });
        setError('');
      })
      .catch((wrong: unknown) => at.current === mine && setError(sentence(wrong)))
      .finally(() => (mine.busy = false));
  }, [path, beat, wish]);
  const same = data && data.path.split('?')[0] === path.split('?')[0];
  return { data: same ? data.answer : undefined, error, again: () => setWish(wish + 1) };
}
