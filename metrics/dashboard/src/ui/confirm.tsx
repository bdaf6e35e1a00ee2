// Asks before something that cannot be taken back, or that changes how the sidecar works.
import { useEffect, useRef } from 'preact/hooks';

export function Confirm(props: { title: string; words: string; yes: string; danger?: boolean; onYes: () => void; onNo: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="dialog-title" onClose={props.onNo} onCancel={props.onNo}>
      <h2 id="dialog-title">{props.title}</h2>
      <p>{props.words}</p>
      <div class="dialog-buttons">
        <button type="button" class="button" onClick={props.onNo}>
          Cancel
        </button>
        <button type="button" class={`button ${props.danger ? 'danger' : 'primary'}`} onClick={props.onYes}>
          {props.yes}
        </button>
      </div>
    </dialog>
  );
}
