import type { ComponentChildren, JSX } from "preact";
import type { About, Presence, Processor, ProcessorState } from "../channel.ts";
import { parseJson } from "../json.ts";
import { formatMoment } from "../status.ts";
import { Json } from "./Json.tsx";

const STATES: Record<ProcessorState, string> = {
  running: "running",
  failed: "failed",
  tripped: "circuit open",
  absent: "not connected",
};

/** What there is to say of a stream besides its events. What is long is folded. */
export function StreamFacts({ about }: { about: About }): JSX.Element {
  const { created_at, active_at, paused, pause_reason, metadata, processors, connections } = about;
  return (
    <div class="itx-facts">
      <div class="itx-found">
        {created_at && <span>Created {formatIso(created_at)} </span>}
        {active_at && <span>Newest event {formatIso(active_at)} </span>}
        {paused === null && <span>This itx tells no more of its streams.</span>}
      </div>
      {paused && (
        <div class="itx-warning">
          Paused{pause_reason ? `: ${pause_reason}` : ""}. It takes no events until somebody appends
          events.iterate.com/stream/resumed.
        </div>
      )}
      {processors && processors.length > 0 && (
        <Fold title={`Processors (${processors.length})${describeTrouble(processors)}`}>
          {processors.map((processor) => (
            <ProcessorLine key={processor.slug} processor={processor} />
          ))}
        </Fold>
      )}
      {connections && connections.length > 0 && (
        <Fold title={`Connected (${about.connection_count})`}>
          {connections.map((connection) => (
            <li key={connection.key}>{describeConnection(connection)}</li>
          ))}
          {about.connection_count > connections.length && (
            <li>and {about.connection_count - connections.length} more</li>
          )}
        </Fold>
      )}
      {metadata === null && (
        <div class="itx-found">Its metadata is too large to show. Read it with get_state().metadata.</div>
      )}
      {metadata !== null && metadata !== "{}" && <Metadata json={metadata} />}
    </div>
  );
}

function Metadata({ json }: { json: string }): JSX.Element {
  const parsed = parseJson(json);
  return <Json name="metadata" value={parsed.fault === null ? parsed.value : json} />;
}

function Fold({ title, children }: { title: string; children: ComponentChildren }): JSX.Element {
  return (
    <details>
      <summary data-lm-suppress-shortcuts="true">{title}</summary>
      <ul>{children}</ul>
    </details>
  );
}

function ProcessorLine({ processor }: { processor: Processor }): JSX.Element {
  const { slug, version, description, state, detail, served } = processor;
  return (
    <li title={description ?? undefined}>
      {slug} <span class="itx-found">{version}</span>{" "}
      <span class={state === "failed" || state === "tripped" ? "itx-warning" : undefined}>
        {STATES[state]}
      </span>
      {served !== null && <span class="itx-found"> up to event {served}</span>}
      {detail && <div class="itx-found">{detail}</div>}
    </li>
  );
}

/** What a person should see without unfolding anything. */
function describeTrouble(processors: readonly Processor[]): string {
  const worst = (["failed", "tripped"] as const).find((state) => processors.some((p) => p.state === state));
  return worst ? `: ${STATES[worst]}` : "";
}

function describeConnection({ key, name, direction, since, served }: Presence): string {
  const who = name && name !== key ? `${name} (${key})` : key;
  const way = direction === "outbound" ? ", called by the stream" : "";
  return `${who}${way}, since ${formatIso(since)}, up to event ${served}`;
}

function formatIso(moment: string): string {
  return formatMoment(Date.parse(moment));
}
