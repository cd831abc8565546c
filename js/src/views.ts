// How many views of one model this page shows. The kernel is told, because it closes a tree that the cell no longer
// shows and nobody else does. Told again whenever the kernel seems to know of fewer: the word may have been lost.

import type { Outgoing } from "./channel.ts";

export class Views {
  readonly #page = Math.random().toString(36).slice(2);
  readonly #send: (message: Outgoing) => void;
  #count = 0;

  constructor(send: (message: Outgoing) => void) {
    this.#send = send;
  }

  /** A view more; the result takes it back, once. */
  add(): () => void {
    this.#count++;
    this.#tell(this.#count);
    let isThere = true;
    return () => {
      if (!isThere) return;
      isThere = false;
      this.#count--;
      this.#tell(this.#count);
    };
  }

  /** The page is being left: its views end, though nobody took them away. */
  leave(): void {
    if (this.#count > 0) this.#tell(null);
  }

  /** The kernel knows of this many views, of all pages together. */
  check(known: number | null): void {
    if (known !== null && known < this.#count) this.#tell(this.#count);
  }

  #tell(count: number | null): void {
    this.#send({ kind: "views", page: this.#page, count });
  }
}
