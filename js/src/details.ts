// The newest events of the selected stream, asked for a page at a time: at the kernel's pace, and never twice at once.
//
// Pages cross a lossy channel, so one that does not come is asked for again. Following needs no message of its own:
// the tree tells when a count moves, and the first page is then asked for anew.

import type { EventPage, Outgoing, StreamEvent } from "./channel.ts";
import type { Clock } from "./clock.ts";

/** How long a page may take before it is asked for again. */
export const PAGE_RETRY_MS = 3_000;
/** The least time between two pages of a stream that never rests. */
export const FOLLOW_MS = 250;
/** Events kept at the most; older ones are asked for again. */
export const MAX_EVENTS = 500;

type Asked = Extract<Outgoing, { kind: "events" }>;

export class Details {
  /** Newest first. */
  events: StreamEvent[] = [];
  metadata: Record<string, unknown> = {};
  /** Where older events go on; null at the beginning of the stream. */
  before: number | null = null;
  /** What failed last, until a page comes. */
  error: string | null = null;
  type = "";
  isFollowing = true;
  path: string | null = null;

  #request = 0;
  #asked: Asked | null = null;
  #count: number | null = null;
  #seen: number | null = null;
  #cancel: () => void = () => {};
  readonly #clock: Clock;
  readonly #send: (message: Outgoing) => void;

  constructor(clock: Clock, send: (message: Outgoing) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  get isLoading(): boolean {
    return this.#asked !== null;
  }

  /** Events that came while following was paused. */
  get unseen(): number {
    return Math.max(0, (this.#count ?? 0) - (this.#seen ?? this.#count ?? 0));
  }

  /** Show a stream from its newest event on; null shows none. */
  open(path: string | null, type = ""): void {
    this.close();
    Object.assign(this, {
      path,
      type,
      events: [],
      metadata: {},
      before: null,
      error: null,
      isFollowing: true,
    });
    this.#count = this.#seen = null;
    if (path !== null) this.#ask(null);
  }

  close(): void {
    this.#cancel();
    this.#asked = null;
  }

  /** The stream has so many events now. */
  note(count: number | null): void {
    if (this.#count === count) return;
    this.#count = count;
    this.#follow();
  }

  older(): void {
    if (this.before !== null) this.#ask(this.before);
  }

  toggleFollowing(): void {
    this.isFollowing = !this.isFollowing;
    this.#follow();
  }

  take(page: EventPage): void {
    const asked = this.#asked;
    if (asked?.request !== page.request) return;
    this.close();
    this.error = page.error?.message ?? null;
    if (page.error) return;
    this.metadata = page.metadata;
    if (asked.before !== null) {
      this.events = [...this.events, ...page.events];
      this.before = page.before;
    } else {
      this.#seen = this.#count;
      const oldest = page.events.at(-1)?.offset ?? 0;
      // Where the page reaches back to what is known it goes before it; else something is missing between.
      const isJoined = this.events.some(({ offset }) => offset >= oldest) && this.events.length < MAX_EVENTS;
      if (!isJoined) this.before = page.before;
      const known = isJoined ? this.events.filter(({ offset }) => offset < oldest) : [];
      this.events = [...page.events, ...known];
    }
    this.#cancel = this.#clock.after(FOLLOW_MS, () => this.#follow());
  }

  #follow(): void {
    if (this.isFollowing && this.path !== null && !this.#asked && this.#seen !== this.#count) this.#ask(null);
  }

  #ask(before: number | null): void {
    const path = this.path;
    if (path === null || this.#asked) return;
    this.#cancel();
    this.#asked = { kind: "events", request: ++this.#request, path, before, type: this.type || null };
    this.#press(this.#asked);
  }

  #press(asked: Asked): void {
    this.#cancel = this.#clock.after(PAGE_RETRY_MS, () => this.#press(asked));
    this.#send(asked);
  }
}
