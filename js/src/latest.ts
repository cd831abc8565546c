// What a person did a moment ago is newer than what the kernel tells of it: its word may be the echo of what they did
// before, and would close a node they have just opened again. So it waits a moment, and the last of it counts then.

import type { Clock } from "./clock.ts";

/** How long the kernel's word on a matter waits after a person's. */
export const ECHO_MS = 1_000;

interface Held {
  until: number;
  /** What the kernel told last in the meantime. */
  told: (() => void) | null;
}

export class Latest {
  /** In the order in which they end. */
  readonly #held = new Map<string, Held>();
  #cancel: (() => void) | null = null;
  readonly #clock: Clock;
  readonly #onTaken: () => void;

  /** `onTaken` is called after words that have waited were taken. */
  constructor(clock: Clock, onTaken: () => void) {
    this.#clock = clock;
    this.#onTaken = onTaken;
  }

  /** A person has settled this matter. */
  did(matter: string): void {
    this.#held.delete(matter);
    this.#held.set(matter, { until: this.#clock.now() + ECHO_MS, told: null });
    this.#cancel ??= this.#clock.after(ECHO_MS, () => this.#release());
  }

  /** The kernel tells how this matter stands: `take` is called, now or later. */
  told(matter: string, take: () => void): void {
    const held = this.#held.get(matter);
    if (held) held.told = take;
    else take();
  }

  /** Let go of everything, untaken. */
  clear(): void {
    this.#held.clear();
    this.#cancel?.();
    this.#cancel = null;
  }

  #release(): void {
    this.#cancel = null;
    const now = this.#clock.now();
    let isTaken = false;
    for (const [matter, { until, told }] of this.#held) {
      if (until > now) {
        this.#cancel = this.#clock.after(until - now, () => this.#release());
        break;
      }
      this.#held.delete(matter);
      told?.();
      isTaken ||= told !== null;
    }
    if (isTaken) this.#onTaken();
  }
}
