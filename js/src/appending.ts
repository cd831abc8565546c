// Events a person appends: what is typed for each stream, and what became of what was sent.
//
// The channel loses answers, so an event is sent again until one comes, always under its own key, by which the kernel
// appends it once. What was typed is given up only when the event is known to be there.

import type { Appended, NodeError, Outgoing } from "./channel.ts";
import type { Clock } from "./clock.ts";
import { type JsonFault, parseJson } from "./json.ts";
import { makeKey } from "./keys.ts";

/** How long an answer may take before the event is sent again. */
export const SEND_AGAIN_MS = 3_000;
/** How long nobody may answer before it is said: longer than the kernel itself takes to give up. */
export const PATIENCE_MS = 12_000;

export type Outcome =
  | { phase: "idle" }
  | { phase: "asked" }
  | { phase: "done"; offset: number }
  | { phase: "failed"; error: NodeError };

export interface Draft {
  readonly type: string;
  /** JSON as it is typed; blank: no payload. */
  readonly payload: string;
  readonly outcome: Outcome;
  /** Whether it was sent once as it is: only then is it said what is still missing. */
  readonly isTried: boolean;
}

interface Entry extends Draft {
  /** Of the event as it is typed, from when it is sent first. */
  readonly key: string | null;
}

const BLANK: Entry = { type: "", payload: "", outcome: { phase: "idle" }, isTried: false, key: null };

const LATE: NodeError = {
  code: "INTERNAL",
  message: "Nobody has answered; the event may be there or not.",
  hint: "Retry: however often it is sent, it is there once.",
  details: null,
};

interface Seams {
  clock: Clock;
  send(message: Outgoing): void;
  onChange(): void;
  /** Makes the key of an event. */
  makeKey?: () => string;
}

export class Appending {
  /** By path: a look at another stream loses nothing. */
  readonly #entries = new Map<string, Entry>();
  readonly #timers = new Map<string, () => void>();
  readonly #seams: Seams;

  constructor(seams: Seams) {
    this.#seams = seams;
  }

  get(path: string): Draft {
    return this.#entries.get(path) ?? BLANK;
  }

  /** Something was typed: it is another event from now on. Nothing is typed into one that is on its way. */
  write(path: string, typed: Partial<Pick<Draft, "type" | "payload">>): void {
    if (this.get(path).outcome.phase === "asked") return;
    this.#set(path, { ...typed, key: null, outcome: BLANK.outcome });
  }

  /** Send what is typed, or say from now on what is missing; the same event again where it was sent before. */
  submit(path: string): void {
    const { type, payload, outcome, key } = this.#entries.get(path) ?? BLANK;
    if (outcome.phase === "asked") return;
    this.#set(path, { isTried: true });
    if (typeFaultOf(type) || payloadFaultOf(payload)) return;
    const request = key ?? (this.#seams.makeKey ?? makeKey)();
    this.#set(path, { key: request, outcome: { phase: "asked" } });
    const text = payload.trim();
    this.#press({ kind: "append", request, path, type: type.trim(), payload: text || null }, 0);
  }

  take({ request, offset, error }: Appended): void {
    const [path, entry] = [...this.#entries].find(([, { key }]) => key === request) ?? [];
    // An answer to what was given up as unanswered is as good.
    if (path === undefined || entry?.outcome.phase === "idle") return;
    this.#rest(path);
    if (offset !== null) {
      this.#set(path, { payload: "", isTried: false, key: null, outcome: { phase: "done", offset } });
    } else {
      this.#set(path, { outcome: { phase: "failed", error: error ?? LATE } });
    }
  }

  close(): void {
    for (const path of [...this.#timers.keys()]) this.#rest(path);
  }

  #press(message: Extract<Outgoing, { kind: "append" }>, waited: number): void {
    const { path } = message;
    const { clock, send } = this.#seams;
    const goOn = () => {
      if (waited + SEND_AGAIN_MS < PATIENCE_MS) this.#press(message, waited + SEND_AGAIN_MS);
      else this.#set(path, { outcome: { phase: "failed", error: LATE } });
    };
    this.#timers.set(path, clock.after(SEND_AGAIN_MS, goOn));
    send(message);
  }

  #rest(path: string): void {
    this.#timers.get(path)?.();
    this.#timers.delete(path);
  }

  #set(path: string, change: Partial<Entry>): void {
    this.#entries.set(path, { ...(this.#entries.get(path) ?? BLANK), ...change });
    this.#seams.onChange();
  }
}

/** Why the engine would not take the type; null where it would. */
export function typeFaultOf(type: string): string | null {
  if (!type.trim()) return "The event needs a type: a word for what happened.";
  return /\p{Surrogate}/u.test(type) ? "The type holds half a character." : null;
}

/** What is wrong with the payload; nothing typed is an event without one. */
export function payloadFaultOf(payload: string): JsonFault | null {
  return payload.trim() ? parseJson(payload).fault : null;
}
