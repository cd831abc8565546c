// The words the kernel and the browser exchange, and the one place where something unknown becomes such a word.
//
// The channel is lossy and its other end may be of another release, so nothing is believed unread: what does not
// fit raises a `MalformedMessage` that names the spot and the value. Names are those of the Python side.

import { parseJson } from "./json.ts";
import { MalformedMessage } from "./malformed.ts";

/** The version of the snapshot's shape this front end reads. */
export const SNAPSHOT_VERSION = 1;

/** Order of siblings: by code point, or from the newest event or the highest count down. */
export type Sort = "name" | "activity" | "count";

export type NodeState = "unloaded" | "loading" | "loaded" | "error";

export interface NodeError {
  code: string;
  message: string;
  hint: string | null;
  details: string | null;
}

export interface TreeNode {
  state: NodeState;
  count: number | null;
  /** Last segments of the immediate children. */
  children: string[];
  error: NodeError | null;
  /** When the data was true, in epoch milliseconds. */
  updated_at: number | null;
  /** When the newest event was written, in epoch milliseconds; null until somebody asked. */
  active_at: number | null;
}

/** `children` replaces the list, `added` extends it. */
export type NodePatch = Partial<TreeNode> & { added?: string[] };

export interface Connection {
  state: "live" | "reconnecting" | "closed";
  /** Epoch milliseconds. */
  since: number;
  detail: string | null;
}

export interface Project {
  id: string;
  slug: string;
}

export interface Snapshot {
  version: typeof SNAPSHOT_VERSION;
  /** Number of the last patch folded in. */
  seq: number;
  /** One life of the Python widget. */
  session: string;
  /** Epoch milliseconds by the kernel's clock. */
  taken_at: number;
  project: Project;
  root: string;
  nodes: Record<string, TreeNode>;
  expanded: string[];
  selected: string | null;
  /** What is searched for; empty where nothing is. */
  filter: string;
  sort: Sort;
  connection: Connection;
}

export interface Patch {
  kind: "patch";
  seq: number;
  /** `null` forgets the node. */
  nodes?: Record<string, NodePatch | null>;
  expand?: string[];
  collapse?: string[];
  selected?: string | null;
  filter?: string;
  sort?: Sort;
  /** Bring this path into view, once. */
  reveal?: string;
  connection?: Connection;
}

export interface Heartbeat {
  kind: "heartbeat";
  seq: number;
  session: string;
  now: number;
  /** How many views the kernel knows of; null where it does not count them. */
  views: number | null;
}

export interface WidgetError {
  kind: "error";
  error: NodeError;
}

export interface StreamEvent {
  offset: number;
  type: string;
  createdAt: string;
  payload?: unknown;
  /** Of an event too large to be sent: its size, instead of the rest. */
  bytes?: number;
  [field: string]: unknown;
}

/** `absent`: nothing of it is connected. `tripped`: the circuit breaker, which has paused the stream. */
export type ProcessorState = "running" | "failed" | "tripped" | "absent";

/** A processor that was seen at the stream, or that the stream is configured to have. */
export interface Processor {
  slug: string;
  version: string | null;
  description: string | null;
  state: ProcessorState;
  detail: string | null;
  /** The offset up to which it was served. */
  served: number | null;
}

/** Somebody who is connected to the stream, and not in silence. */
export interface Presence {
  key: string;
  name: string | null;
  direction: "inbound" | "outbound";
  /** ISO-8601. */
  since: string;
  served: number;
}

/** What there is to say of a stream besides its events; null where nobody told. Times are ISO-8601. */
export interface About {
  count: number;
  created_at: string | null;
  active_at: string | null;
  paused: boolean | null;
  pause_reason: string | null;
  /** As JSON; null also where it is too large. */
  metadata: string | null;
  processors: Processor[] | null;
  /** The first of them; `connection_count` says of how many. */
  connections: Presence[] | null;
  connection_count: number;
}

/** The answer to a request for events; `events` newest first. */
export interface EventPage {
  kind: "events";
  request: number;
  events: StreamEvent[];
  /** Where older ones go on; null at the beginning. */
  before: number | null;
  /** Of the newest page alone. */
  about: About | null;
  error: NodeError | null;
}

/** The answer to a request for a stream: where it is, or why it is not. */
export interface Created {
  kind: "created";
  request: number;
  path: string | null;
  error: NodeError | null;
}

/** The answer to a request to append. */
export interface Appended {
  kind: "appended";
  request: string;
  offset: number | null;
  error: NodeError | null;
}

export type Incoming = Patch | Heartbeat | WidgetError | EventPage | Appended | Created;

export type Outgoing =
  | { kind: "hello" }
  | { kind: "resync"; have: number }
  /** Of one page; `count` is null when it is left. */
  | { kind: "views"; page: string; count: number | null }
  /** `payload` is JSON as it was typed; the kernel appends once for all messages of one `request`. */
  | { kind: "append"; request: string; path: string; type: string; payload: string | null }
  | {
      kind: "events";
      request: number;
      path: string;
      before: number | null;
      /** What is older is known. */
      after: number | null;
      type: string | null;
    }
  /** Have a path followed whose row does not want it, until another is looked at. */
  | { kind: "look"; path: string | null }
  | { kind: "create"; request: number; parent: string; name: string }
  | { kind: "filter"; text: string }
  | { kind: "sort"; by: Sort }
  | { kind: "expand" | "collapse" | "select" | "refresh"; path: string };

/** A snapshot with the nodes that could be read, and what was wrong with the first that could not. */
export interface ReadSnapshot {
  snapshot: Snapshot;
  complaint: MalformedMessage | null;
}

type Reader<T> = (raw: unknown, where: string) => T;
type Readers<T> = { [K in keyof T]-?: Reader<Exclude<T[K], undefined>> };

const nullOr =
  <T>(read: Reader<T>): Reader<T | null> =>
  (raw, where) => {
    if (raw == null) return null;
    try {
      return read(raw, where);
    } catch (failure) {
      if (!(failure instanceof MalformedMessage) || failure.where !== where) throw failure;
      throw new MalformedMessage(where, raw, `${failure.wanted} or null`);
    }
  };

const withDefault =
  <T>(read: Reader<T>, absent: T): Reader<T> =>
  (raw, where) =>
    raw === undefined ? absent : read(raw, where);

const oneOf =
  <T extends string>(...words: T[]): Reader<T> =>
  (raw, where) => {
    if (words.includes(raw as T)) return raw as T;
    throw new MalformedMessage(where, raw, `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`);
  };

const listOf =
  <T>(read: Reader<T>): Reader<T[]> =>
  (raw, where) => {
    if (!Array.isArray(raw)) throw new MalformedMessage(where, raw, "a list");
    return raw.map((item) => read(item, where));
  };

const recordOf =
  <T>(readers: Readers<T>): Reader<T> =>
  (raw, where) =>
    readFields(raw, where, readers, true) as T;

/** Like `recordOf`, of the fields that are there. */
const someOf =
  <T>(readers: Readers<T>): Reader<Partial<T>> =>
  (raw, where) =>
    readFields(raw, where, readers, false) as Partial<T>;

const mapOf =
  <T>(read: Reader<T>): Reader<Record<string, T>> =>
  (raw, where) =>
    Object.fromEntries(
      Object.entries(object(raw, where)).map(([key, value]) => [key, read(value, `${where}["${key}"]`)]),
    );

function readFields(raw: unknown, where: string, readers: object, areAllWanted: boolean): unknown {
  const source = object(raw, where);
  const read: Record<string, unknown> = {};
  for (const [name, reader] of Object.entries(readers)) {
    const value = source[name];
    if (areAllWanted || value !== undefined) read[name] = reader(value, `${where}.${name}`);
  }
  return read;
}

const object: Reader<Record<string, unknown>> = (raw, where) => {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw new MalformedMessage(where, raw, "an object");
  }
  return raw as Record<string, unknown>;
};

const text: Reader<string> = (raw, where) => {
  if (typeof raw !== "string") throw new MalformedMessage(where, raw, "a text");
  return raw;
};

const number: Reader<number> = (raw, where) => {
  if (!Number.isFinite(raw)) throw new MalformedMessage(where, raw, "a number");
  return raw as number;
};

const wholeNumber: Reader<number> = (raw, where) => {
  if (!Number.isSafeInteger(raw)) throw new MalformedMessage(where, raw, "a whole number");
  return raw as number;
};

/** An empty segment, or one with a slash, would make a node its own descendant. */
const segment: Reader<string> = (raw, where) => {
  const value = text(raw, where);
  if (value === "" || value.includes("/")) throw new MalformedMessage(where, value, "a path segment");
  return value;
};

const path: Reader<string> = (raw, where) => {
  const value = text(raw, where);
  if (!value.startsWith("/")) throw new MalformedMessage(where, value, "a path");
  return value;
};

const sort = oneOf<Sort>("name", "activity", "count");

const error = recordOf<NodeError>({
  code: text,
  message: text,
  hint: nullOr(text),
  details: nullOr(text),
});

const connection = recordOf<Connection>({
  state: oneOf("live", "reconnecting", "closed"),
  since: number,
  detail: nullOr(text),
});

const NODE: Readers<TreeNode> = {
  state: oneOf<NodeState>("unloaded", "loading", "loaded", "error"),
  count: nullOr(number),
  children: listOf(segment),
  error: nullOr(error),
  updated_at: nullOr(number),
  active_at: nullOr(number),
};

const node = recordOf(NODE);

const snapshotFrame = recordOf<Omit<Snapshot, "version" | "nodes">>({
  seq: wholeNumber,
  session: text,
  taken_at: number,
  project: recordOf<Project>({ id: text, slug: text }),
  root: path,
  expanded: listOf(text),
  selected: nullOr(text),
  // Notebooks saved by the first release know neither.
  filter: withDefault(text, ""),
  sort: withDefault(sort, "name"),
  connection,
});

const patch = someOf<Omit<Patch, "kind">>({
  seq: wholeNumber,
  nodes: mapOf(nullOr(someOf({ ...NODE, added: listOf(segment) }))),
  expand: listOf(text),
  collapse: listOf(text),
  selected: nullOr(text),
  filter: text,
  sort,
  reveal: path,
  connection,
});

const flag: Reader<boolean> = (raw, where) => {
  if (typeof raw !== "boolean") throw new MalformedMessage(where, raw, "true or false");
  return raw;
};

const about = recordOf<About>({
  count: wholeNumber,
  created_at: nullOr(text),
  active_at: nullOr(text),
  paused: nullOr(flag),
  pause_reason: nullOr(text),
  metadata: nullOr(text),
  processors: nullOr(
    listOf(
      recordOf<Processor>({
        slug: text,
        version: nullOr(text),
        description: nullOr(text),
        state: oneOf<ProcessorState>("running", "failed", "tripped", "absent"),
        detail: nullOr(text),
        served: nullOr(wholeNumber),
      }),
    ),
  ),
  connections: nullOr(
    listOf(
      recordOf<Presence>({
        key: text,
        name: nullOr(text),
        direction: oneOf("inbound", "outbound"),
        since: text,
        served: wholeNumber,
      }),
    ),
  ),
  connection_count: wholeNumber,
});

const envelope = recordOf<{ offset: number; type: string; createdAt: string }>({
  offset: wholeNumber,
  type: text,
  createdAt: text,
});

/** An event whose numbers the browser would round comes with a text of its rest. */
const event: Reader<StreamEvent> = (raw, where) => {
  const { json, ...told } = object(raw, where);
  const named = envelope(raw, where);
  if (typeof json !== "string") return { ...told, ...named };
  const rest = parseJson(json);
  if (rest.fault !== null) throw new MalformedMessage(`${where}.json`, json, "JSON");
  return { ...object(rest.value, `${where}.json`), ...named };
};

const page = recordOf<Omit<EventPage, "kind">>({
  request: wholeNumber,
  events: listOf(event),
  before: nullOr(wholeNumber),
  about: nullOr(about),
  error: nullOr(error),
});

const appended = recordOf<Omit<Appended, "kind">>({
  request: text,
  offset: nullOr(wholeNumber),
  error: nullOr(error),
});

const heartbeat = recordOf<Omit<Heartbeat, "kind">>({
  seq: wholeNumber,
  session: text,
  now: number,
  views: nullOr(wholeNumber),
});

const created = recordOf<Omit<Created, "kind">>({
  request: wholeNumber,
  path: nullOr(path),
  error: nullOr(error),
});

/**
 * Read one custom message. Raises `MalformedMessage`; a patch is taken whole or not at all, since half a patch
 * would leave a tree that no number describes.
 */
export function parseMessage(raw: unknown): Incoming {
  const message = object(raw, "message");
  const { kind } = message;
  switch (kind) {
    case "patch":
      return { kind, ...patch(message, kind), seq: wholeNumber(message.seq, "patch.seq") };
    case "heartbeat":
      return { kind, ...heartbeat(message, kind) };
    case "events":
      return { kind, ...page(message, kind) };
    case "appended":
      return { kind, ...appended(message, kind) };
    case "created":
      return { kind, ...created(message, kind) };
    case "error":
      return { kind, error: error(message.error, "error.error") };
    default:
      throw new MalformedMessage(
        "message.kind",
        kind,
        "patch, heartbeat, events, appended, created or error",
      );
  }
}

/**
 * Read the `snapshot` trait. Raises `MalformedMessage` where the frame is wrong; a single wrong node is left out
 * and reported instead, because refusing all the others would show nothing and asking again would bring the same.
 */
export function parseSnapshot(raw: unknown): ReadSnapshot {
  const source = object(raw, "snapshot");
  const { version } = source;
  if (version !== SNAPSHOT_VERSION) {
    throw new MalformedMessage("snapshot.version", version, `${SNAPSHOT_VERSION}`);
  }
  const nodes: Record<string, TreeNode> = {};
  let complaint: MalformedMessage | null = null;
  for (const [path, rawNode] of Object.entries(object(source.nodes, "snapshot.nodes"))) {
    try {
      nodes[path] = node(rawNode, `snapshot.nodes["${path}"]`);
    } catch (failure) {
      if (!(failure instanceof MalformedMessage)) throw failure;
      complaint ??= failure;
    }
  }
  return { complaint, snapshot: { version, nodes, ...snapshotFrame(source, "snapshot") } };
}
