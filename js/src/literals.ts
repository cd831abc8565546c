// Values as somebody pastes them: JSON, and Python.

import type { StreamEvent } from "./channel.ts";

/** A JSON value as a Python literal; JSON's texts and numbers are Python's as well. */
export function toPython(value: unknown): string {
  if (value === null || typeof value === "boolean")
    return { null: "None", true: "True", false: "False" }[`${value}`];
  if (Array.isArray(value)) return `[${value.map(toPython).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${toPython(item)}`);
  return `{${items.join(", ")}}`;
}

/** The call that would append an event like this one. */
export function toAppend(path: string, { type, payload }: StreamEvent): string {
  const rest = payload === undefined ? "" : `, ${toPython(payload)}`;
  return `itx.streams.get(${toPython(path)}).append(${toPython(type)}${rest})`;
}
