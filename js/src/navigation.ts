// What the breadcrumbs and their lists ask of the kernel: the children of a path, and a new stream.
//
// Both cross a lossy channel, so both are asked again, and both end: a list that does not come says so, and so does
// a stream that nobody confirms.

import type { Created, NodeError, Outgoing } from "./channel.ts";
import type { Clock } from "./clock.ts";

/** How long an answer may take before it is asked for again. */
export const ASK_AGAIN_MS = 3_000;
/** How long somebody is let wait for an answer before being told that there is none. */
export const PATIENCE_MS = 12_000;

interface Seams {
  clock: Clock;
  send(message: Outgoing): void;
  /** Is there anything to show of the path: data, or what went wrong? */
  isKnown(path: string): boolean;
  onChange(): void;
  onCreated(path: string): void;
  /** The number before that of the first request. The answers to one page arrive at all of them. */
  firstRequest?: number;
}

export interface Creation {
  parent: string;
  name: string;
  isWaiting: boolean;
  error: NodeError | null;
}

export class Navigation {
  /** The path whose children are looked at. */
  #looked: string | null = null;
  /** It did not come in time. */
  #isLate = false;
  #creation: (Creation & { request: number }) | null = null;
  #created: string | null = null;
  #request: number;
  #cancelLook: () => void = () => {};
  #cancelCreation: () => void = () => {};
  readonly #seams: Seams;

  constructor(seams: Seams) {
    this.#seams = seams;
    this.#request = seams.firstRequest ?? 0;
  }

  /** The stream that is being made, or could not be. */
  get creation(): Creation | null {
    return this.#creation;
  }

  /** The stream that was made last, until another is asked for. */
  get created(): string | null {
    return this.#created;
  }

  /** Did the children of `path` not come although they were asked for? */
  isLate(path: string): boolean {
    return this.#isLate && this.#looked === path;
  }

  /** Ask for the children of `path`, and have them followed until `leave`. */
  look(path: string): void {
    this.#looked = path;
    this.#isLate = false;
    this.#askFor(path, this.#seams.clock.now() + PATIENCE_MS);
    this.#seams.onChange();
  }

  /** The list of `path` was closed. */
  leave(path: string): void {
    if (this.#looked !== path) return;
    this.#cancelLook();
    this.#looked = null;
    this.#seams.send({ kind: "look", path: null });
  }

  /** Have a stream made. Asking twice for the same is harmless: the kernel makes it once. */
  create(parent: string, name: string): void {
    this.#cancelCreation();
    const request = ++this.#request;
    this.#created = null;
    this.#creation = { request, parent, name, isWaiting: true, error: null };
    this.#press({ kind: "create", request, parent, name }, this.#seams.clock.now() + PATIENCE_MS);
    this.#seams.onChange();
  }

  /** Nobody waits for it any more; it is made all the same. */
  dropCreation(): void {
    this.#cancelCreation();
    this.#creation = null;
  }

  take({ request, path, error }: Created): void {
    const creation = this.#creation;
    if (creation?.request !== request) return;
    this.#cancelCreation();
    if (error === null && path !== null) {
      this.#creation = null;
      this.#created = path;
      this.#seams.onCreated(path);
    } else this.#fail(error ?? NO_ANSWER);
  }

  close(): void {
    this.#cancelLook();
    this.#cancelCreation();
  }

  #askFor(path: string, end: number): void {
    this.#cancelLook();
    this.#seams.send({ kind: "look", path });
    this.#cancelLook = this.#seams.clock.after(ASK_AGAIN_MS, () => {
      if (this.#seams.isKnown(path)) return;
      if (this.#seams.clock.now() < end) this.#askFor(path, end);
      else {
        this.#isLate = true;
        this.#seams.onChange();
      }
    });
  }

  #press(message: Outgoing, end: number): void {
    this.#seams.send(message);
    this.#cancelCreation = this.#seams.clock.after(ASK_AGAIN_MS, () => {
      if (this.#seams.clock.now() < end) this.#press(message, end);
      else this.#fail(NO_ANSWER);
    });
  }

  #fail(error: NodeError): void {
    if (this.#creation) this.#creation = { ...this.#creation, isWaiting: false, error };
    this.#seams.onChange();
  }
}

const NO_ANSWER: NodeError = {
  code: "INTERNAL",
  message: "The kernel did not answer, so it is not known whether the stream was created.",
  hint: "Try again: a stream is created once.",
  details: null,
};
