// Asks for the admin token. It goes to the sidecar once; what is kept is a cookie that no script can read.
import { signal } from '@preact/signals';
import { useState } from 'preact/hooks';
import { login, sentence } from '../api';

/** True when this page has logged in, and so can log out. */
export const sessionHeld = signal(false);

export function Login() {
  const [token, setToken] = useState('');
  const [wrong, setWrong] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await login(token);
      sessionHeld.value = true;
      setWrong('');
    } catch (error) {
      setWrong(sentence(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="login" id="main">
      <form onSubmit={(event) => void submit(event)}>
        <svg width="40" height="40" viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="8" />
          <path d="M8 21V11m0 5h6l3-5 3 10 2.5-5H25" fill="none" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round" />
        </svg>
        <h1>PromptOps sidecar</h1>
        <p>This sidecar asks for its admin token: the content of the file that <code>admin.token_file</code> names.</p>
        <label for="token">Admin token</label>
        <input id="token" type="password" autocomplete="current-password" required autofocus value={token} aria-invalid={!!wrong} aria-describedby="wrong" onInput={(event) => setToken(event.currentTarget.value)} />
        <p class="wrong" id="wrong" role="alert">
          {wrong}
        </p>
        <button type="submit" class="button primary" disabled={busy || !token}>
          {busy ? 'Logging in' : 'Log in'}
        </button>
      </form>
    </main>
  );
}
