// The words the kernel and the browser exchange, and the one place where something unknown becomes such a word.
//
// The channel is lossy and its other end may be of another release, so nothing is believed unread: what does not
// fit raises a `MalformedMessage` that names the spot and the value. Names are those of the Python side.

import { MalformedMessage } from "./malformed.ts";

/** The version of the snapshot's shape this front end reads. */
export const SNAPSHOT_VERSION = 1;

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
  connection?: Connection;
}

export interface Heartbeat {
  kind: "heartbeat";
  seq: number;
  session: string;
  now: number;
}

export interface WidgetError {
  kind: "error";
  error: NodeError;
}

export type Incoming = Patch | Heartbeat | WidgetError;

export type Outgoing =
  | { kind: "hello" }
  | { kind: "resync"; have: number }
  | { kind: "expand" | "collapse" | "select" | "refresh"; path: string };

/** A snapshot with the nodes that could be read, and what was wrong with the first that could not. */
export interface ReadSnapshot {
  snapshot: Snapshot;
  complaint: MalformedMessage | null;
}

/**
 * Read one custom message. Raises `MalformedMessage`; a patch is taken whole or not at all, since half a patch
 * would leave a tree that no number describes.
 */
export function parseMessage(raw: unknown): Incoming {
  const message = object(raw, "message");
  switch (message.kind) {
    case "patch":
      return parsePatch(message);
    case "heartbeat":
      return {
        kind: "heartbeat",
        seq: wholeNumber(message.seq, "heartbeat.seq"),
        session: text(message.session, "heartbeat.session"),
        now: number(message.now, "heartbeat.now"),
      };
    case "error":
      return { kind: "error", error: parseError(message.error, "error.error") };
    default:
      throw new MalformedMessage("message.kind", message.kind, "patch, heartbeat or error");
  }
}

/**
 * Read the `snapshot` trait. Raises `MalformedMessage` where the frame is wrong; a single wrong node is left out
 * and reported instead, because refusing all the others would show nothing and asking again would bring the same.
 */
export function parseSnapshot(raw: unknown): ReadSnapshot {
  const snapshot = object(raw, "snapshot");
  if (snapshot.version !== SNAPSHOT_VERSION) {
    throw new MalformedMessage("snapshot.version", snapshot.version, `${SNAPSHOT_VERSION}`);
  }
  const project = object(snapshot.project, "snapshot.project");
  const nodes: Record<string, TreeNode> = {};
  let complaint: MalformedMessage | null = null;
  for (const [path, node] of Object.entries(object(snapshot.nodes, "snapshot.nodes"))) {
    try {
      nodes[path] = parseNode(node, `snapshot.nodes["${path}"]`);
    } catch (error) {
      if (!(error instanceof MalformedMessage)) throw error;
      complaint ??= error;
    }
  }
  return {
    complaint,
    snapshot: {
      version: SNAPSHOT_VERSION,
      seq: wholeNumber(snapshot.seq, "snapshot.seq"),
      session: text(snapshot.session, "snapshot.session"),
      taken_at: number(snapshot.taken_at, "snapshot.taken_at"),
      project: {
        id: text(project.id, "snapshot.project.id"),
        slug: text(project.slug, "snapshot.project.slug"),
      },
      root: path(snapshot.root, "snapshot.root"),
      nodes,
      expanded: texts(snapshot.expanded, "snapshot.expanded"),
      selected: textOrNull(snapshot.selected, "snapshot.selected"),
      connection: parseConnection(snapshot.connection, "snapshot.connection"),
    },
  };
}

function parsePatch(message: Record<string, unknown>): Patch {
  const patch: Patch = { kind: "patch", seq: wholeNumber(message.seq, "patch.seq") };
  if (message.nodes !== undefined) {
    patch.nodes = {};
    for (const [path, node] of Object.entries(object(message.nodes, "patch.nodes"))) {
      patch.nodes[path] = node === null ? null : parseNodePatch(node, `patch.nodes["${path}"]`);
    }
  }
  if (message.expand !== undefined) patch.expand = texts(message.expand, "patch.expand");
  if (message.collapse !== undefined) patch.collapse = texts(message.collapse, "patch.collapse");
  if (message.selected !== undefined) patch.selected = textOrNull(message.selected, "patch.selected");
  if (message.connection !== undefined) {
    patch.connection = parseConnection(message.connection, "patch.connection");
  }
  return patch;
}

function parseNode(raw: unknown, where: string): TreeNode {
  const node = object(raw, where);
  return {
    state: nodeState(node.state, `${where}.state`),
    count: numberOrNull(node.count, `${where}.count`),
    children: segments(node.children, `${where}.children`),
    error: errorOrNull(node.error, `${where}.error`),
    updated_at: numberOrNull(node.updated_at, `${where}.updated_at`),
  };
}

function parseNodePatch(raw: unknown, where: string): NodePatch {
  const node = object(raw, where);
  const patch: NodePatch = {};
  if (node.state !== undefined) patch.state = nodeState(node.state, `${where}.state`);
  if (node.count !== undefined) patch.count = numberOrNull(node.count, `${where}.count`);
  if (node.children !== undefined) patch.children = segments(node.children, `${where}.children`);
  if (node.added !== undefined) patch.added = segments(node.added, `${where}.added`);
  if (node.error !== undefined) patch.error = errorOrNull(node.error, `${where}.error`);
  if (node.updated_at !== undefined) patch.updated_at = numberOrNull(node.updated_at, `${where}.updated_at`);
  return patch;
}

function parseError(raw: unknown, where: string): NodeError {
  const error = object(raw, where);
  return {
    code: text(error.code, `${where}.code`),
    message: text(error.message, `${where}.message`),
    hint: textOrNull(error.hint ?? null, `${where}.hint`),
    details: textOrNull(error.details ?? null, `${where}.details`),
  };
}

function parseConnection(raw: unknown, where: string): Connection {
  const connection = object(raw, where);
  const { state } = connection;
  if (state !== "live" && state !== "reconnecting" && state !== "closed") {
    throw new MalformedMessage(`${where}.state`, state, "live, reconnecting or closed");
  }
  return {
    state,
    since: number(connection.since, `${where}.since`),
    detail: textOrNull(connection.detail ?? null, `${where}.detail`),
  };
}

function object(raw: unknown, where: string): Record<string, unknown> {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw new MalformedMessage(where, raw, "an object");
  }
  return raw as Record<string, unknown>;
}

function text(raw: unknown, where: string): string {
  if (typeof raw !== "string") throw new MalformedMessage(where, raw, "a text");
  return raw;
}

function textOrNull(raw: unknown, where: string): string | null {
  if (raw !== null && typeof raw !== "string") throw new MalformedMessage(where, raw, "a text or null");
  return raw;
}

function number(raw: unknown, where: string): number {
  if (!isNumber(raw)) throw new MalformedMessage(where, raw, "a number");
  return raw;
}

function numberOrNull(raw: unknown, where: string): number | null {
  if (raw !== null && !isNumber(raw)) throw new MalformedMessage(where, raw, "a number or null");
  return raw;
}

function isNumber(raw: unknown): raw is number {
  return typeof raw === "number" && Number.isFinite(raw);
}

function wholeNumber(raw: unknown, where: string): number {
  if (!Number.isSafeInteger(raw)) throw new MalformedMessage(where, raw, "a whole number");
  return raw as number;
}

function array(raw: unknown, where: string): unknown[] {
  if (!Array.isArray(raw)) throw new MalformedMessage(where, raw, "a list");
  return raw;
}

function texts(raw: unknown, where: string): string[] {
  return array(raw, where).map((item) => text(item, where));
}

/** An empty segment, or one with a slash, would make a node its own descendant. */
function segments(raw: unknown, where: string): string[] {
  return array(raw, where).map((item) => {
    const segment = text(item, where);
    if (segment === "" || segment.includes("/")) throw new MalformedMessage(where, segment, "a path segment");
    return segment;
  });
}

function path(raw: unknown, where: string): string {
  const value = text(raw, where);
  if (!value.startsWith("/")) throw new MalformedMessage(where, value, "a path");
  return value;
}

function nodeState(raw: unknown, where: string): NodeState {
  if (raw === "unloaded" || raw === "loading" || raw === "loaded" || raw === "error") return raw;
  throw new MalformedMessage(where, raw, "unloaded, loading, loaded or error");
}

function errorOrNull(raw: unknown, where: string): NodeError | null {
  return raw === null ? null : parseError(raw, where);
}
