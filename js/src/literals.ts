// Values and events as somebody pastes them: JSON, and Python.

import type { StreamEvent } from "./channel.ts";
import { writeJson } from "./json.ts";

/** A JSON value as a Python literal; JSON's texts and numbers are Python's as well. */
export function toPython(value: unknown): string {
  if (value === null || typeof value === "boolean")
    return { null: "None", true: "True", false: "False" }[`${value}`];
  if (Array.isArray(value)) return `[${value.map(toPython).join(", ")}]`;
  if (typeof value !== "object") return writeJson(value);
  const items = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${toPython(item)}`);
  return `{${items.join(", ")}}`;
}

/** The call that would append an event like this one. */
export function toAppend(path: string, event: StreamEvent): string {
  return `itx.streams.get(${toPython(path)})${appendCall(event)}`;
}

/** The calls that would append events like these to a stream, in the order of the stream. */
export function toAppends(path: string, events: readonly StreamEvent[]): string {
  const calls = oldestFirst(events).map((event) =>
    event.bytes
      ? `# ${event.type} at ${event.offset} is too large to be here: ${event.bytes} bytes`
      : `stream${appendCall(event)}`,
  );
  return [`stream = itx.streams.get(${toPython(path)})`, ...calls].join("\n");
}

/** Events as a JSON list, in the order of the stream. */
export function toJsonList(events: readonly StreamEvent[]): string {
  return writeJson(oldestFirst(events), 2);
}

function appendCall({ type, payload, metadata }: StreamEvent): string {
  const rest = payload === undefined ? "" : `, ${toPython(payload)}`;
  const isBare = typeof metadata !== "object" || metadata === null || Object.keys(metadata).length === 0;
  return `.append(${toPython(type)}${rest}${isBare ? "" : `, metadata=${toPython(metadata)}`})`;
}

function oldestFirst(events: readonly StreamEvent[]): StreamEvent[] {
  return [...events].sort((a, b) => a.offset - b.offset);
}
