import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { payloadFaultOf, typeFaultOf } from "../appending.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { Trouble } from "./Trouble.tsx";

interface AppendFormProps {
  store: TreeStore;
  path: string;
  /** Unique in the document. */
  id: string;
}

/** Append an event: its type, its payload as JSON. Nothing typed is lost before the event is there. */
export function AppendForm({ store, path, id }: AppendFormProps): JSX.Element {
  const { appending } = store;
  const { type, payload, outcome, isTried } = appending.get(path);
  const typeField = useRef<HTMLInputElement>(null);
  const payloadField = useRef<HTMLTextAreaElement>(null);
  const typeFault = isTried ? typeFaultOf(type) : null;
  const payloadFault = payloadFaultOf(payload);
  const isAsked = outcome.phase === "asked";

  const submit = () => {
    if (!store.canAsk) return;
    const wrong = typeFaultOf(type) ? typeField.current : payloadFault && payloadField.current;
    appending.submit(path);
    wrong?.focus();
  };
  const pressed = (event: KeyboardEvent) => {
    const isCommand = event.ctrlKey || event.metaKey;
    // A line break in the payload is one.
    if (event.key !== "Enter" || (!isCommand && event.target !== typeField.current)) return;
    // In a notebook the same keys run the cell.
    event.preventDefault();
    event.stopPropagation();
    // An event cannot be taken back: Enter alone only goes on from the type to the payload.
    if (isCommand) submit();
    else payloadField.current?.focus();
  };

  return (
    <form
      class="itx-append"
      aria-label={`Append to ${path}`}
      onSubmit={(event) => event.preventDefault()}
      onKeyDown={pressed}
    >
      <div class="itx-append-line">
        <input
          ref={typeField}
          class="itx-field"
          aria-label="Type of the event"
          placeholder="Type"
          list={`${id}-types`}
          autocomplete="off"
          spellcheck={false}
          readOnly={isAsked}
          value={type}
          aria-invalid={typeFault !== null}
          aria-describedby={typeFault ? `${id}-type-fault` : undefined}
          data-lm-suppress-shortcuts="true"
          onInput={(event) => appending.write(path, { type: event.currentTarget.value })}
        />
        <Button
          className="itx-text-button"
          title={store.canAsk ? "Ctrl+Enter or ⌘Enter" : "Nobody to ask: run the cell first"}
          disabled={isAsked || !store.canAsk}
          onPress={submit}
        >
          Append
        </Button>
      </div>
      {typeFault && (
        <p id={`${id}-type-fault`} class="itx-fault">
          {typeFault}
        </p>
      )}
      <textarea
        ref={payloadField}
        class="itx-field"
        aria-label="Payload as JSON"
        placeholder="Payload as JSON, or nothing"
        rows={3}
        spellcheck={false}
        readOnly={isAsked}
        value={payload}
        aria-invalid={payloadFault !== null}
        aria-describedby={payloadFault ? `${id}-payload-fault` : undefined}
        data-lm-suppress-shortcuts="true"
        onInput={(event) => appending.write(path, { payload: event.currentTarget.value })}
      />
      {payloadFault && (
        <p id={`${id}-payload-fault`} class="itx-fault">
          Line {payloadFault.line}, column {payloadFault.column}: {payloadFault.message}.
        </p>
      )}
      {outcome.phase === "failed" && (
        <div role="alert">
          <Trouble error={outcome.error} canAsk={store.canAsk} onRetry={submit} />
        </div>
      )}
      <p class="itx-found" role="status">
        {isAsked && "Appending…"}
        {outcome.phase === "done" && `Appended as event ${outcome.offset}.`}
      </p>
    </form>
  );
}
