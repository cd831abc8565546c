// The newest events of the selected stream and what else there is to say of it, asked for a page at a time: at the
// kernel's pace, and never twice at once.
//
// Pages cross a lossy channel, so one that does not come is asked for again. Following needs no message of its own:
// the tree tells when a count moves, and the first page is then asked for anew.

import type { About, EventPage, NodeError, Outgoing, StreamEvent } from "./channel.ts";
import type { Clock } from "./clock.ts";

/** How long a page may take before it is asked for again. */
export const PAGE_RETRY_MS = 3_000;
/** How long nobody may answer before it is said: longer than the kernel itself takes to give up. */
export const PATIENCE_MS = 12_000;
/** The least time between two pages of a stream that never rests. */
export const FOLLOW_MS = 250;
/** How often a stream is looked at of which the tree tells nothing: it lies elsewhere, or cannot be read. */
export const POLL_MS = 2_000;
/** Events kept at the most; older ones are asked for again. */
export const MAX_EVENTS = 500;

type Asked = Extract<Outgoing, { kind: "events" }>;

interface Seams {
  clock: Clock;
  send(message: Outgoing): void;
  onChange(): void;
  /** The number before that of the first request. The answers to one page arrive at all of them. */
  firstRequest?: number;
}

export class Details {
  path: string | null = null;
  /** Newest first. */
  events: StreamEvent[] = [];
  /** As of the newest page; null until it comes. */
  about: About | null = null;
  /** Where older events go on; null at the beginning of the stream. */
  before: number | null = null;
  /** What failed last, until a page comes. */
  error: NodeError | null = null;
  /** Only events of this type are shown; empty: all. */
  type = "";
  isFollowing = true;

  #request: number;
  #asked: Asked | null = null;
  #askedAt = 0;
  /** Up to which offset the events are known; null while none were read. */
  #known: number | null = null;
  /** Where the page began that failed last. */
  #failedBefore: number | null = null;
  #count: number | null = null;
  #seen: number | null = null;
  readonly #types = new Set<string>();
  #cancel: () => void = () => {};
  readonly #seams: Seams;

  constructor(seams: Seams) {
    this.#seams = seams;
    this.#request = seams.firstRequest ?? 0;
  }

  /** What is awaited: the newest page, or an older one. */
  get loading(): "newest" | "older" | null {
    if (!this.#asked) return null;
    return this.#asked.before === null ? "newest" : "older";
  }

  /** When a question was asked that has waited too long for its answer, in epoch milliseconds. */
  get unansweredSince(): number | null {
    const isLate = this.#asked && this.#seams.clock.now() - this.#askedAt >= PATIENCE_MS;
    return isLate ? this.#askedAt : null;
  }

  /** Events that came while following was paused. */
  get unseen(): number {
    return Math.max(0, (this.#count ?? 0) - (this.#seen ?? this.#count ?? 0));
  }

  /** Types of this stream's events, as far as they were seen, in order. */
  get types(): string[] {
    return [...this.#types].sort();
  }

  /** Show a stream from its newest event on; null shows none. */
  open(path: string | null, type = ""): void {
    this.close();
    if (path !== this.path) {
      this.#types.clear();
      this.about = null;
      this.#count = null;
    }
    this.path = path;
    this.type = type;
    this.events = [];
    this.before = null;
    this.error = null;
    this.isFollowing = true;
    this.#seen = this.#known = null;
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

  /** Ask again what failed, or what nobody has answered. */
  retry(): void {
    const before = this.#asked ? this.#asked.before : this.#failedBefore;
    this.close();
    this.#ask(before);
  }

  /** Somebody is there again: do not wait for the next try. */
  wake(): void {
    if (this.#asked) this.retry();
  }

  toggleFollowing(): void {
    this.isFollowing = !this.isFollowing;
    this.#follow();
  }

  take(page: EventPage): void {
    const asked = this.#asked;
    if (asked?.request !== page.request) return;
    this.close();
    this.error = page.error;
    this.#failedBefore = page.error ? asked.before : null;
    if (page.error) return;
    for (const { type } of page.events) this.#types.add(type);
    if (asked.before !== null) {
      this.events = [...this.events, ...page.events];
      this.before = page.before;
    } else if (this.#isOtherLife(page)) {
      // What is new alone says nothing of a stream that was erased meanwhile.
      this.open(this.path, this.type);
      return;
    } else {
      this.#takeNewest(page, asked.after);
    }
    this.#cancel = this.#seams.clock.after(this.#count === null ? POLL_MS : FOLLOW_MS, () => this.#follow());
  }

  #isOtherLife({ about }: EventPage): boolean {
    const [then, now] = [this.about?.created_at, about?.created_at];
    return this.#known !== null && then !== now;
  }

  #takeNewest(page: EventPage, after: number | null): void {
    const count = page.about?.count ?? null;
    this.about = page.about ?? this.about;
    this.#seen = this.#count;
    this.#known = count;
    // Where the page reaches back to what is known it goes before it; else something is missing between.
    if (after === null || page.before !== null || (count ?? 0) < after) {
      this.events = page.events;
      this.before = page.before;
      return;
    }
    const joined = [...page.events, ...this.events];
    this.events = joined.slice(0, MAX_EVENTS);
    if (joined.length > MAX_EVENTS) this.before = this.events.at(-1)?.offset ?? null;
  }

  #follow(): void {
    const isNew = this.#count === null || this.#seen !== this.#count;
    if (this.isFollowing && this.path !== null && !this.#asked && isNew) this.#ask(null);
  }

  #ask(before: number | null): void {
    const path = this.path;
    if (path === null || this.#asked) return;
    this.#cancel();
    const after = before === null ? this.#known : null;
    this.#asked = { kind: "events", request: ++this.#request, path, before, after, type: this.type || null };
    this.#askedAt = this.#seams.clock.now();
    this.#press(this.#asked);
  }

  #press(asked: Asked): void {
    this.#cancel = this.#seams.clock.after(PAGE_RETRY_MS, () => {
      this.#press(asked);
      this.#seams.onChange();
    });
    this.#seams.send(asked);
  }
}
