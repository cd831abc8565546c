import { describe, expect, it } from "vitest";
import { parseMessage, parseSnapshot } from "../src/channel.ts";
import { MalformedMessage } from "../src/malformed.ts";
import { failure, loaded, snapshotOf } from "./helpers/values.ts";

function complaintOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof MalformedMessage) return error.message;
    throw error;
  }
  return "none";
}

describe("parseMessage", () => {
  it("reads a patch with everything in it, and one with nothing", () => {
    const patch = {
      kind: "patch",
      seq: 5,
      nodes: { "/a": { count: 3, added: ["x"] }, "/b": null, "/c": loaded(1, ["y"]) },
      expand: ["/a"],
      collapse: ["/b"],
      selected: null,
      connection: { state: "reconnecting", since: 9, detail: "socket closed" },
    };
    expect(parseMessage(patch)).toEqual(patch);
    expect(parseMessage({ kind: "patch", seq: 6 })).toEqual({ kind: "patch", seq: 6 });
  });

  it("reads a heartbeat and an error", () => {
    const heartbeat = { kind: "heartbeat", seq: 5, session: "s", now: 12.5, views: 1 };
    expect(parseMessage(heartbeat)).toEqual(heartbeat);
    const error = { kind: "error", error: failure("no", { hint: "do this" }) };
    expect(parseMessage(error)).toEqual(error);
    expect(parseMessage({ kind: "error", error: { code: "X", message: "m" } })).toEqual({
      kind: "error",
      error: { code: "X", message: "m", hint: null, details: null },
    });
  });

  it("leaves out what a later kernel may add", () => {
    expect(
      parseMessage({ kind: "patch", seq: 1, colour: "red", nodes: { "/a": { count: 1, mood: 2 } } }),
    ).toEqual({
      kind: "patch",
      seq: 1,
      nodes: { "/a": { count: 1 } },
    });
  });

  it.each([
    [null, "message is null, not an object"],
    ["patch", 'message is "patch", not an object'],
    [[], "message is [], not an object"],
    [{}, "message.kind is missing, not patch, heartbeat, events, appended, created or error"],
    [{ kind: "dance" }, 'message.kind is "dance", not patch, heartbeat, events, appended, created or error'],
    [{ kind: "patch", seq: "5" }, 'patch.seq is "5", not a whole number'],
    [{ kind: "patch", seq: 1.5 }, "patch.seq is 1.5, not a whole number"],
    [{ kind: "patch", seq: 1, nodes: [] }, "patch.nodes is [], not an object"],
    [{ kind: "patch", seq: 1, nodes: { "/a": 1 } }, 'patch.nodes["/a"] is 1, not an object or null'],
    [
      { kind: "patch", seq: 1, nodes: { "/a": { state: "odd" } } },
      'patch.nodes["/a"].state is "odd", not unloaded, loading, loaded or error',
    ],
    [
      { kind: "patch", seq: 1, nodes: { "/a": { count: "3" } } },
      'patch.nodes["/a"].count is "3", not a number or null',
    ],
    [
      { kind: "patch", seq: 1, nodes: { "/a": { added: [""] } } },
      'patch.nodes["/a"].added is "", not a path segment',
    ],
    [
      { kind: "patch", seq: 1, nodes: { "/a": { children: ["x/y"] } } },
      'patch.nodes["/a"].children is "x/y", not a path segment',
    ],
    [{ kind: "patch", seq: 1, expand: "/a" }, 'patch.expand is "/a", not a list'],
    [{ kind: "patch", seq: 1, expand: [1] }, "patch.expand is 1, not a text"],
    [{ kind: "patch", seq: 1, selected: 4 }, "patch.selected is 4, not a text or null"],
    [
      { kind: "patch", seq: 1, connection: { state: "asleep" } },
      'patch.connection.state is "asleep", not live, reconnecting or closed',
    ],
    [{ kind: "heartbeat", seq: 1, session: 7, now: 1 }, "heartbeat.session is 7, not a text"],
    [{ kind: "heartbeat", seq: 1, session: "s", now: Number.NaN }, "heartbeat.now is NaN, not a number"],
    [{ kind: "error", error: { code: "X" } }, "error.error.message is missing, not a text"],
  ])("refuses %j", (raw, complaint) => {
    expect(complaintOf(() => parseMessage(raw))).toBe(complaint);
  });

  it("shows no more of a wrong value than fits a line", () => {
    const complaint = complaintOf(() => parseMessage({ kind: "x".repeat(500) }));
    expect(complaint).toBe(
      `message.kind is "${"x".repeat(58)}…, not patch, heartbeat, events, appended, created or error`,
    );
    expect(complaintOf(() => parseMessage(12n))).toBe("message is 12, not an object");
  });
});

describe("parseSnapshot", () => {
  it("reads a snapshot into objects of its own", () => {
    const raw = snapshotOf();
    const { snapshot, complaint } = parseSnapshot(raw);
    expect(complaint).toBeNull();
    expect(snapshot).toEqual(raw);
    expect(snapshot.nodes["/"]).not.toBe(raw.nodes["/"]);
    expect(snapshot.nodes["/"]?.children).not.toBe(raw.nodes["/"]?.children);
  });

  it("leaves out a single wrong node and says which", () => {
    const raw = { ...snapshotOf(), nodes: { "/": loaded(1, ["a"]), "/a": { state: 7 }, "/b": 1 } };
    const { snapshot, complaint } = parseSnapshot(raw);
    expect(snapshot.nodes).toEqual({ "/": loaded(1, ["a"]) });
    expect(complaint?.message).toBe(
      'snapshot.nodes["/a"].state is 7, not unloaded, loading, loaded or error',
    );
  });

  it.each([
    [undefined, "snapshot is missing, not an object"],
    [{}, "snapshot.version is missing, not 1"],
    [{ ...snapshotOf(), version: 2 }, "snapshot.version is 2, not 1"],
    [{ ...snapshotOf(), seq: null }, "snapshot.seq is null, not a whole number"],
    [{ ...snapshotOf(), root: "agents" }, 'snapshot.root is "agents", not a path'],
    [{ ...snapshotOf(), project: { id: "p" } }, "snapshot.project.slug is missing, not a text"],
    [{ ...snapshotOf(), connection: null }, "snapshot.connection is null, not an object"],
  ])("refuses a wrong frame (%#)", (raw, complaint) => {
    expect(complaintOf(() => parseSnapshot(raw))).toBe(complaint);
  });
});
