import type { About, Connection, NodeError, Snapshot, TreeNode } from "../../src/channel.ts";

export const LIVE: Connection = { state: "live", since: 0, detail: null };

/** A loaded node with these children. */
export function loaded(count: number, children: string[] = [], more: Partial<TreeNode> = {}): TreeNode {
  return { state: "loaded", count, children, error: null, updated_at: 1_000, active_at: null, ...more };
}

/** A node nothing is known of. */
export function blank(more: Partial<TreeNode> = {}): TreeNode {
  return {
    state: "unloaded",
    count: null,
    children: [],
    error: null,
    updated_at: null,
    active_at: null,
    ...more,
  };
}

export function failure(message: string, more: Partial<NodeError> = {}): NodeError {
  return { code: "NOT_FOUND", message, hint: null, details: null, ...more };
}

/** `/` with `/agents` (open, with `slack` and `mail`) and `/billing`, after patch 4 of session `life-1`. */
export function snapshotOf(more: Partial<Snapshot> = {}): Snapshot {
  return {
    version: 1,
    seq: 4,
    session: "life-1",
    taken_at: Date.UTC(2026, 10, 23, 11, 59, 58),
    project: { id: "prj_1", slug: "acme" },
    root: "/",
    nodes: {
      "/": loaded(1827, ["agents", "billing"]),
      "/agents": loaded(1, ["slack", "mail"]),
      "/agents/slack": loaded(12),
    },
    expanded: ["/", "/agents"],
    selected: null,
    filter: "",
    sort: "name",
    connection: LIVE,
    ...more,
  };
}

/** What is said of a stream of which there is nothing to say. */
export function aboutOf(more: Partial<About> = {}): About {
  return {
    count: 0,
    created_at: null,
    active_at: null,
    paused: false,
    pause_reason: null,
    metadata: "{}",
    processors: [],
    connections: [],
    connection_count: 0,
    ...more,
  };
}
