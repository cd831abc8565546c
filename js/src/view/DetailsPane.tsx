import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { NodeError, StreamEvent } from "../channel.ts";
import { copyText } from "../copying.ts";
import { writeJson } from "../json.ts";
import { toAppend, toAppends, toJsonList } from "../literals.ts";
import { formatTime } from "../status.ts";
import type { TreeStore } from "../store.ts";
import { AppendForm } from "./AppendForm.tsx";
import { Button } from "./Button.tsx";
import { EventLine } from "./EventLine.tsx";
import { CloseIcon } from "./icons.tsx";
import { StreamFacts } from "./StreamFacts.tsx";
import { Trouble } from "./Trouble.tsx";
import { TypeFilter } from "./TypeFilter.tsx";

interface DetailsPaneProps {
  store: TreeStore;
  /** Unique in the document. */
  id: string;
}

/** The selected stream: what it is, its newest events, and a form for one more. */
export function DetailsPane({ store, id }: DetailsPaneProps): JSX.Element | null {
  const { details } = store;
  const { path, events, about } = details;
  const pane = useRef<HTMLElement>(null);
  const [said, say] = useState("");
  if (path === null) return null;

  const copy = async (text: string, what: string) => {
    const isCopied = pane.current !== null && (await copyText(text, pane.current));
    say(isCopied ? `Copied ${what}.` : "This page may not copy: select the text instead.");
  };
  const copyEvent = (event: StreamEvent, form: "JSON" | "Python") =>
    copy(form === "JSON" ? writeJson(event, 2) : toAppend(path, event), `event ${event.offset} as ${form}`);
  const shown = describeCount(events.length);
  const close = () => {
    // Where the focus was before; it would otherwise go with the button.
    pane.current?.parentElement?.querySelector<HTMLElement>('[role="tree"]')?.focus({ preventScroll: true });
    store.showDetails(null);
  };
  const count = store.tree.get(path)?.count ?? about?.count;

  return (
    <section ref={pane} class="itx-pane" aria-label={`Details of ${path}`}>
      <div class="itx-tools">
        <span class="itx-path">
          <bdi>{path}</bdi> <span class="itx-found">{count != null && describeCount(count)}</span>
        </span>
        <Button className="itx-icon-button" label="Close details" onPress={close}>
          <CloseIcon />
        </Button>
      </div>
      {about && <StreamFacts about={about} />}
      <div class="itx-tools">
        <TypeFilter store={store} path={path} listId={`${id}-types`} />
        <Button className="itx-text-button" onPress={() => store.toggleFollowing()}>
          {details.isFollowing ? "Pause" : `Resume${details.unseen ? ` (${details.unseen})` : ""}`}
        </Button>
        <Button
          className="itx-text-button"
          title="Copy the events shown, as a JSON list"
          disabled={events.length === 0}
          onPress={() => copy(toJsonList(events), `${shown} as JSON`)}
        >
          Copy all JSON
        </Button>
        <Button
          className="itx-text-button"
          title="Copy the events shown, as Python that appends them"
          disabled={events.length === 0}
          onPress={() => copy(toAppends(path, events), `${shown} as Python`)}
        >
          Copy all Python
        </Button>
        <span class="itx-found" role="status">
          {said}
        </span>
      </div>
      <div class="itx-events">
        <Shortfall store={store} />
        {events.map((event) => (
          <EventLine key={event.offset} event={event} onCopy={(form) => copyEvent(event, form)} />
        ))}
        {events.length === 0 && !details.error && <p class="itx-remark">{describeAbsence(store)}</p>}
        {details.before !== null && (
          <Button
            className="itx-text-button"
            disabled={!store.canAsk || details.loading === "older"}
            onPress={() => store.showOlder()}
          >
            {details.loading === "older" && store.canAsk ? "Loading older…" : "Older"}
          </Button>
        )}
      </div>
      {!store.isReadOnly && <AppendForm store={store} path={path} id={id} />}
    </section>
  );
}

function describeCount(count: number): string {
  return count === 1 ? "1 event" : `${count.toLocaleString("en")} events`;
}

/** Why what is shown is not what there is. */
function Shortfall({ store }: { store: TreeStore }): JSX.Element | null {
  const { details } = store;
  const error = details.error ?? describeSilence(store);
  if (!error) return null;
  return (
    <Trouble
      error={error}
      lead={details.events.length > 0 ? "Not up to date: " : undefined}
      canAsk={store.canAsk}
      onRetry={() => store.retryDetails()}
    />
  );
}

function describeSilence({ details, canAsk }: TreeStore): NodeError | null {
  const since = details.unansweredSince;
  if (since === null || !canAsk) return null;
  return {
    code: "INTERNAL",
    message: `Nobody has answered since ${formatTime(since)}.`,
    hint: "It is asked again every few seconds; a cell that keeps the kernel busy may be the reason.",
    details: null,
  };
}

function describeAbsence({ details, canAsk }: TreeStore): string {
  if (details.loading === null) return details.type ? "No events of this type." : "No events.";
  return canAsk ? "Loading…" : "Not loaded: nobody to ask.";
}
