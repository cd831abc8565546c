// The tree of one widget in the browser: it follows the kernel's numbered patches, notices what it missed, and
// keeps working when nobody answers. It owns no DOM; all views of one model share one store.

import { Appending } from "./appending.ts";
import {
  type Connection,
  type Heartbeat,
  type NodeError,
  type Outgoing,
  type Patch,
  type Project,
  parseMessage,
  parseSnapshot,
  SNAPSHOT_VERSION,
  type Snapshot,
  type Sort,
} from "./channel.ts";
import type { Clock } from "./clock.ts";
import { Details } from "./details.ts";
import { makeFirstNumber } from "./keys.ts";
import { Latest } from "./latest.ts";
import { Link, type LinkState } from "./link.ts";
import { MalformedMessage } from "./malformed.ts";
import { Navigation } from "./navigation.ts";
import { hasData, NodeTable, troubleOf } from "./nodes.ts";
import { isBelow } from "./path.ts";
import { Views } from "./views.ts";

/** A snapshot older than this was not made for this display: the notebook was saved with it. */
export const FRESH_MS = 10_000;
/** How long an asked-for snapshot may take before it is asked for again. */
export const RESYNC_RETRY_MS = 2_000;
/** How long the tree must rest before its snapshot is written into the model. */
export const QUIET_MS = 1_000;
/** A tree that never rests is written this often: the whole of it is compared each time. */
export const MAX_UNSAVED_MS = 30_000;

/** How long typing must rest before the kernel is told what is searched for. */
export const TYPING_MS = 200;

/** How often ages are told anew, which takes no timer: the kernel's heartbeat brings the time. */
const TICK_MS = 10_000;

export interface StoreSeams {
  clock: Clock;
  /** Send one custom message to the kernel; may throw or reject when there is none. */
  send(message: Outgoing): unknown;
  /** Write the snapshot into the model, where the front end finds it when the notebook is saved. */
  save(snapshot: Snapshot): void;
}

export class TreeStore {
  readonly tree = new NodeTable();
  readonly details: Details;
  readonly appending: Appending;
  readonly navigation: Navigation;
  readonly views: Views;
  /** What the kernel wants brought into view; another object each time. */
  revealed: { path: string } | null = null;

  // What the snapshot carried besides the nodes.
  #seq = 0;
  #session: string | null = null;
  #takenAt = 0;
  #project: Project = { id: "", slug: "" };
  #selected: string | null = null;
  /** The selection that the details have followed: closed by hand, they stay so until another. */
  #followed: string | null = null;
  #filter = "";
  #cancelTyping: (() => void) | null = null;
  #connection: Connection = { state: "live", since: 0, detail: null };

  // Where the channel stands.
  readonly #link: Link;
  readonly #seams: StoreSeams;
  /** The number a snapshot must reach before patches count again; null while none was missed. */
  #gap: number | null = null;
  #cancelRetry: () => void = () => {};
  /** The last word on each matter while nobody listened, told when somebody does. */
  readonly #untold = new Map<string, Outgoing>();
  readonly #latest: Latest;

  // What waits to be written into the model.
  #unsavedSince: number | null = null;
  #saved: Snapshot | null = null;
  #cancelSave: () => void = () => {};

  #isReadOnly = false;
  #notice: NodeError | null = null;
  readonly #listeners = new Set<() => void>();

  constructor(seams: StoreSeams) {
    this.#seams = seams;
    this.#link = new Link(seams.clock, () => this.#changed());
    this.#latest = new Latest(seams.clock, () => {
      this.#followSelection();
      this.#touch();
    });
    this.views = new Views((message) => this.#send(message));
    const asks = {
      clock: seams.clock,
      send: (message: Outgoing) => {
        if (this.canAsk) this.#send(message);
      },
      onChange: () => this.#changed(),
    };
    this.details = new Details({ ...asks, firstRequest: makeFirstNumber() });
    this.appending = new Appending(asks);
    this.navigation = new Navigation({
      ...asks,
      firstRequest: makeFirstNumber(),
      isKnown: (path) => hasData(this.tree.get(path)) || troubleOf(this.tree.get(path)) !== null,
      onCreated: (path) => this.goTo(path),
    });
  }

  get project(): Project {
    return this.#project;
  }

  get selected(): string | null {
    return this.#selected;
  }

  /** What is searched for, as it was typed. */
  get filter(): string {
    return this.#filter;
  }

  get connection(): Connection {
    return this.#connection;
  }

  get link(): LinkState {
    return this.#link.state;
  }

  /** When the tree was last known to be true, in epoch milliseconds by the kernel's clock. */
  get takenAt(): number {
    return this.#takenAt;
  }

  /** A trouble of the whole widget, until the next good patch or `dismiss`. */
  get notice(): NodeError | null {
    return this.#notice;
  }

  /** Is nothing to be written from here? The kernel would refuse it. */
  get isReadOnly(): boolean {
    return this.#isReadOnly;
  }

  set isReadOnly(isReadOnly: boolean) {
    this.#isReadOnly = isReadOnly;
    this.#changed();
  }

  /** Might a request be answered? */
  get canAsk(): boolean {
    return this.link.phase === "live" || this.link.phase === "connecting";
  }

  /** Does a loading node really load at this moment? */
  get isFlowing(): boolean {
    return this.#link.isLive && this.#connection.state === "live";
  }

  /** Does the kernel follow this path, so that what is known of it is true now? */
  isFollowed(path: string): boolean {
    const { tree } = this;
    const isOnTheWay = path === tree.root || this.#selected === path || isBelow(this.#selected ?? "", path);
    return this.isFlowing && (isOnTheWay || tree.isOpenToTheRoot(path));
  }

  /** Greet the kernel, and begin to listen for it. */
  open(): void {
    this.#link.open(Math.abs(this.#seams.clock.now() - this.#takenAt) < FRESH_MS);
    this.#send({ kind: "hello" });
  }

  /** Release every timer and listener; nothing is drawn or sent by the store's own doing afterwards. */
  close(): void {
    this.#link.close();
    this.#cancelRetry();
    this.#cancelSave();
    this.#cancelTyping?.();
    this.#latest.clear();
    this.details.close();
    this.appending.close();
    this.navigation.close();
    this.#listeners.clear();
  }

  /** Call `listener` after every change; the result takes it back. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Take a snapshot over. One that says nothing new is left alone: the kernel also sends snapshots for the sake
   * of whoever saves the notebook.
   */
  load(raw: unknown): void {
    // Writing the model reports a change as the kernel's own writing does.
    if (raw === this.#saved && raw !== null) return;
    const read = this.#read(() => parseSnapshot(raw));
    if (!read) return;
    const { snapshot, complaint } = read;
    const { seq, session } = snapshot;
    const wanted = session !== this.#session || (this.#gap === null ? seq > this.#seq : seq >= this.#gap);
    if (!wanted) return;
    this.#seq = seq;
    this.#session = session;
    this.#takenAt = snapshot.taken_at;
    this.#project = snapshot.project;
    this.#selected = snapshot.selected;
    this.#connection = snapshot.connection;
    this.tree.load(snapshot.root, snapshot.nodes, snapshot.expanded);
    this.#arrange(snapshot);
    this.#gap = null;
    this.#cancelRetry();
    this.#latest.clear();
    if (complaint) this.#complain(complaint);
    this.#followSelection();
    this.#noteCount();
    this.#changed();
  }

  /** Take one custom message from the kernel. */
  receive(raw: unknown): void {
    const message = this.#read(() => parseMessage(raw));
    switch (message?.kind) {
      case "patch":
        this.#takePatch(message);
        break;
      case "heartbeat":
        this.#takeHeartbeat(message);
        break;
      case "events":
        this.details.take(message);
        this.#changed();
        break;
      case "appended":
        this.appending.take(message);
        break;
      case "created":
        this.navigation.take(message);
        break;
      case "error":
        this.#notice = message.error;
        this.#changed();
    }
  }

  /** The front end says that something befell the comm: believe it gone, unless it answers. */
  doubt(): void {
    this.#link.lose();
    this.#send({ kind: "hello" });
  }

  /** Open a node at once and tell the kernel, which loads it; nothing where it could only stay empty. */
  expand(path: string): void {
    if (!this.canAsk && !hasData(this.tree.get(path))) return;
    if (this.tree.expand(path)) this.#tell(`fold ${path}`, { kind: "expand", path });
  }

  collapse(path: string): void {
    // A search shows all that it found.
    if (!this.tree.arrangement.text && this.tree.collapse(path))
      this.#tell(`fold ${path}`, { kind: "collapse", path });
  }

  toggle(path: string): void {
    if (this.tree.isExpanded(path)) this.collapse(path);
    else this.expand(path);
  }

  select(path: string): void {
    this.#selected = this.#followed = path;
    this.#tell("select", { kind: "select", path });
    if (this.details.path !== path) this.showDetails(path);
  }

  /** Select, and bring into view what a search hides or the list is scrolled away from. */
  goTo(path: string): void {
    const { text } = this.tree.arrangement;
    if (text && !path.toLowerCase().includes(text)) this.search("");
    this.revealed = { path };
    this.select(path);
  }

  /** Search at once; the kernel, which reads what was never opened, is told when the typing rests. */
  search(text: string): void {
    this.#cancelTyping?.();
    this.#cancelTyping = null;
    this.#arrange({ filter: text });
    this.#cancelTyping = this.#seams.clock.after(TYPING_MS, () => {
      this.#cancelTyping = null;
      this.#tell("filter", { kind: "filter", text });
    });
    this.#changed();
  }

  sort(by: Sort): void {
    this.#arrange({ sort: by });
    this.#tell("sort", { kind: "sort", by });
  }

  /** Show a stream's events, of one type or of all; null closes the details. */
  showDetails(path: string | null, type = ""): void {
    this.details.open(path, type);
    this.#noteCount();
    this.#changed();
  }

  /** Ask again for events that failed to come. */
  retryDetails(): void {
    this.details.retry();
    this.#changed();
  }

  showOlder(): void {
    this.details.older();
    this.#changed();
  }

  toggleFollowing(): void {
    this.details.toggleFollowing();
    this.#changed();
  }

  refresh(path: string): void {
    this.#send({ kind: "refresh", path });
  }

  dismiss(): void {
    this.#notice = null;
    this.#changed();
  }

  #takePatch(patch: Patch): void {
    this.#hear();
    if (patch.seq <= this.#seq || this.#gap !== null) return;
    if (patch.seq !== this.#seq + 1) {
      this.#miss(patch.seq);
      return;
    }
    this.#seq = patch.seq;
    for (const [path, node] of Object.entries(patch.nodes ?? {})) this.tree.patch(path, node);
    for (const path of patch.expand ?? []) this.#latest.told(`fold ${path}`, () => this.tree.expand(path));
    for (const path of patch.collapse ?? [])
      this.#latest.told(`fold ${path}`, () => this.tree.collapse(path));
    const { selected } = patch;
    if (selected !== undefined) {
      this.#latest.told("select", () => {
        this.#selected = selected;
      });
    }
    this.#followSelection();
    this.#noteCount();
    const { filter, sort } = patch;
    if (filter !== undefined) this.#latest.told("filter", () => this.#arrange({ filter }));
    if (sort) this.#latest.told("sort", () => this.#arrange({ sort }));
    if (patch.reveal) this.revealed = { path: patch.reveal };
    if (patch.connection) this.#connection = patch.connection;
    this.#notice = null;
    this.#touch();
  }

  #takeHeartbeat({ seq, session, now, views }: Heartbeat): void {
    this.views.check(views);
    if (session !== this.#session) {
      this.#miss(seq);
      return;
    }
    const isBack = !this.#link.isLive;
    this.#hear();
    if (seq > this.#seq || (isBack && seq !== this.#seq)) this.#miss(seq);
    else this.#passTo(now);
  }

  #arrange({ filter, sort }: { filter?: string; sort?: Sort }): void {
    // What is being typed is newer than anything the kernel heard of.
    if (filter !== undefined && !this.#cancelTyping) this.#filter = filter;
    else if (sort === undefined) return;
    this.tree.arrange({
      text: this.#filter.trim().toLowerCase(),
      sort: sort ?? this.tree.arrangement.sort,
    });
  }

  /** Show what is selected, whoever selected it, once there is somebody to tell of it. */
  #followSelection(): void {
    if (this.#followed === this.#selected || !this.#link.isLive) return;
    this.#followed = this.#selected;
    if (this.details.path !== this.#selected) this.details.open(this.#selected);
    this.#noteCount();
  }

  #noteCount(): void {
    const { path } = this.details;
    if (path !== null) this.details.note(this.tree.get(path)?.count ?? null);
  }

  #hear(): void {
    const wasLive = this.#link.isLive;
    this.#link.hear();
    const messages = [...this.#untold.values()];
    this.#untold.clear();
    for (const message of messages) this.#send(message);
    if (wasLive) return;
    this.details.wake();
    this.#followSelection();
  }

  /** The kernel's clock goes on, and with it how long ago things were. */
  #passTo(now: number): void {
    const isOther = Math.floor(now / TICK_MS) !== Math.floor(this.#takenAt / TICK_MS);
    this.#takenAt = now;
    if (isOther) this.#changed();
  }

  /** Something up to `seq` did not arrive: ask for everything, until it comes. */
  #miss(seq: number): void {
    if (this.#gap !== null) return;
    this.#gap = seq;
    this.#askResync();
  }

  #askResync(): void {
    this.#cancelRetry();
    this.#cancelRetry = this.#seams.clock.after(RESYNC_RETRY_MS, () => this.#askResync());
    this.#send({ kind: "resync", have: this.#seq });
  }

  /** Tell the kernel what a person did, now or later: it happened already. */
  #tell(matter: string, message: Outgoing): void {
    this.#latest.did(matter);
    if (this.canAsk) this.#send(message);
    if (!this.canAsk) this.#untold.set(matter, message);
    this.#touch();
  }

  /** Send, and learn from the failure that nobody is there. */
  #send(message: Outgoing): void {
    try {
      const sent = this.#seams.send(message);
      // Some hosts send asynchronously, and would report a dead kernel as an unhandled rejection.
      if (sent instanceof Promise) sent.catch(() => this.#link.lose());
    } catch {
      this.#link.lose();
    }
  }

  #read<T>(parse: () => T): T | null {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof MalformedMessage)) throw error;
      this.#complain(error);
      return null;
    }
  }

  #complain(error: MalformedMessage): void {
    this.#notice = {
      code: "BAD_MESSAGE",
      message: `A message from the kernel was left out: ${error.message}.`,
      hint: "If it stays so, re-run the cell with one version of itx-notebook installed.",
      details: null,
    };
    this.#changed();
  }

  /** The tree changed: draw it, and write it down once it rests. */
  #touch(): void {
    this.#changed();
    const { clock } = this.#seams;
    this.#unsavedSince ??= clock.now();
    const patience = this.#unsavedSince + MAX_UNSAVED_MS - clock.now();
    this.#cancelSave();
    this.#cancelSave = clock.after(Math.max(0, Math.min(QUIET_MS, patience)), () => this.#save());
  }

  #save(): void {
    this.#unsavedSince = null;
    if (this.#session === null) return;
    this.#saved = {
      version: SNAPSHOT_VERSION,
      seq: this.#seq,
      session: this.#session,
      taken_at: this.#takenAt,
      project: this.#project,
      root: this.tree.root,
      ...this.tree.copy(),
      selected: this.#selected,
      filter: this.#filter,
      sort: this.tree.arrangement.sort,
      connection: this.#connection,
    };
    this.#seams.save(this.#saved);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
