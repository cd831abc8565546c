// Is somebody at the other end? A front end is told nothing when its kernel dies, so it listens for signs of life.

import type { Clock } from "./clock.ts";

/** Three heartbeats missed. */
export const SILENCE_MS = 6_000;

export type LinkState =
  /** A fresh display that has heard nothing yet. */
  | { phase: "connecting" }
  | { phase: "live" }
  /** Nothing was ever heard: what is shown was saved earlier. */
  | { phase: "snapshot" }
  /** The kernel spoke last at `since` (epoch milliseconds). */
  | { phase: "cut"; since: number };

/** Turns signs of life, and their absence, into a state; `onChange` follows every change of it. */
export class Link {
  readonly #clock: Clock;
  readonly #onChange: () => void;
  #state: LinkState = { phase: "connecting" };
  #heardAt = 0;
  #cancelWatch: () => void = () => {};

  constructor(clock: Clock, onChange: () => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  get state(): LinkState {
    return this.#state;
  }

  get isLive(): boolean {
    return this.#state.phase === "live";
  }

  /** Begin to wait for the first sign of life; what is not `isFresh` is a snapshot until there is one. */
  open(isFresh: boolean): void {
    if (isFresh) this.#watch(SILENCE_MS);
    else this.#enter({ phase: "snapshot" });
  }

  /** A sign of life, which brings the link back from anywhere. */
  hear(): void {
    this.#heardAt = this.#clock.now();
    if (this.isLive) return;
    this.#enter({ phase: "live" });
    this.#watch(SILENCE_MS);
  }

  /** The kernel is known to be gone, or has been silent for too long. */
  lose(): void {
    this.#cancelWatch();
    const { phase } = this.#state;
    if (phase === "connecting") this.#enter({ phase: "snapshot" });
    else if (phase === "live") this.#enter({ phase: "cut", since: this.#heardAt });
  }

  close(): void {
    this.#cancelWatch();
  }

  /** One timer runs at a time and looks at the clock when it ends: a heartbeat then costs no timer. */
  #watch(delay: number): void {
    this.#cancelWatch();
    this.#cancelWatch = this.#clock.after(delay, () => {
      const left = this.isLive ? this.#heardAt + SILENCE_MS - this.#clock.now() : 0;
      if (left > 0) this.#watch(left);
      else this.lose();
    });
  }

  #enter(state: LinkState): void {
    this.#state = state;
    this.#onChange();
  }
}
