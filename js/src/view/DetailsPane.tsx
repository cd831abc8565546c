import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { StreamEvent } from "../channel.ts";
import { toAppend } from "../literals.ts";
import { formatMoment } from "../status.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { CloseIcon } from "./icons.tsx";
import { Json } from "./Json.tsx";

/** The selected stream: what it is, and its newest events. */
export function DetailsPane({ store }: { store: TreeStore }): JSX.Element | null {
  const { details } = store;
  const { path, events } = details;
  const [typed, setTyped] = useState(details.type);
  if (path === null) return null;
  const count = store.tree.get(path)?.count;
  return (
    <section class="itx-pane" aria-label={`Details of ${path}`}>
      <div class="itx-tools">
        <span class="itx-path">
          {path} <span class="itx-found">{count != null && `${count} events`}</span>
        </span>
        <input
          class="itx-field"
          type="search"
          placeholder="Type, Enter"
          aria-label="Only events of the type"
          // What is being typed outlives the drawings that following brings.
          value={typed}
          data-lm-suppress-shortcuts="true"
          onInput={(event) => setTyped(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") store.showDetails(path, typed.trim());
          }}
        />
        <Button className="itx-text-button" onPress={() => store.toggleFollowing()}>
          {details.isFollowing ? "Pause" : `Resume${details.unseen ? ` (${details.unseen})` : ""}`}
        </Button>
        <Button className="itx-icon-button" label="Close details" onPress={() => store.showDetails(null)}>
          <CloseIcon />
        </Button>
      </div>
      <div class="itx-events">
        {Object.keys(details.metadata).length > 0 && <Json name="metadata" value={details.metadata} />}
        {details.error && <p class="itx-remark">{details.error}</p>}
        {events.map((event) => (
          <Event key={event.offset} path={path} event={event} />
        ))}
        {events.length === 0 && !details.error && (
          <p class="itx-remark">
            {!details.isLoading ? "No events." : store.canAsk ? "Loading…" : "Not loaded."}
          </p>
        )}
        {details.before !== null && (
          <Button className="itx-text-button" disabled={!store.canAsk} onPress={() => store.showOlder()}>
            Older
          </Button>
        )}
      </div>
    </section>
  );
}

function Event({ path, event }: { path: string; event: StreamEvent }): JSX.Element {
  const [open, setOpen] = useState(false);
  const { offset, type, createdAt, bytes, ...rest } = event;
  const copy = (text: string) => navigator.clipboard?.writeText(text);
  return (
    <details class="itx-event" onToggle={(toggle) => setOpen(toggle.currentTarget.open)}>
      <summary data-lm-suppress-shortcuts="true">
        <span class="itx-found">{offset}</span> {type}{" "}
        <span class="itx-found">{formatMoment(Date.parse(createdAt))}</span>
      </summary>
      {!open ? null : bytes ? (
        <p class="itx-remark">
          {bytes} bytes: too large to show. Read it with get_event({offset}).
        </p>
      ) : (
        <>
          {Object.entries(rest).map(([name, value]) => (
            <Json key={name} name={name} value={value} isOpen />
          ))}
          <Button className="itx-text-button" onPress={() => copy(JSON.stringify(event, null, 2))}>
            Copy JSON
          </Button>{" "}
          <Button className="itx-text-button" onPress={() => copy(toAppend(path, event))}>
            Copy Python
          </Button>
        </>
      )}
    </details>
  );
}
