import { beforeEach, describe, expect, it } from "vitest";
import type { Outgoing, Patch, Snapshot } from "../src/channel.ts";
import { ECHO_MS } from "../src/latest.ts";
import { FRESH_MS, MAX_UNSAVED_MS, QUIET_MS, RESYNC_RETRY_MS, TreeStore } from "../src/store.ts";
import { FakeClock } from "./helpers/FakeClock.ts";
import { blank, failure, loaded, snapshotOf } from "./helpers/values.ts";

let clock: FakeClock;
let store: TreeStore;
let sent: Outgoing[];
let saved: Snapshot[];
let sendsTo: (message: Outgoing) => unknown;

beforeEach(() => {
  clock = new FakeClock();
  sent = [];
  saved = [];
  sendsTo = () => undefined;
  store = new TreeStore({
    clock,
    send: (message) => {
      const answer = sendsTo(message);
      sent.push(message);
      return answer;
    },
    save: (snapshot) => {
      saved.push(snapshot);
      // As the model does: the change is announced to whoever listens, the store among them.
      store.load(snapshot);
    },
  });
  store.load(snapshotOf());
  store.open();
});

const patch = (seq: number, more: Partial<Patch> = {}) => store.receive({ kind: "patch", seq, ...more });
const beat = (seq = 4, session = "life-1") =>
  store.receive({ kind: "heartbeat", seq, session, now: clock.now() });
const asked = () => sent.filter((message) => message.kind === "resync");

function goDead(): void {
  sendsTo = () => {
    throw new Error("Cannot send");
  };
}

describe("first paint", () => {
  it("has the tree before anything was sent or heard", () => {
    expect(store.tree.rows).toEqual(["/", "/agents", "/agents/mail", "/agents/slack", "/billing"]);
    expect(store.project).toEqual({ id: "prj_1", slug: "acme" });
    expect(sent).toEqual([{ kind: "hello" }]);
    expect(store.link.phase).toBe("connecting");
  });

  it("is a snapshot from the start where it was saved earlier, until the kernel is heard", () => {
    const reopened = new TreeStore({ clock, send: sendsTo, save: () => undefined });
    reopened.load(snapshotOf({ taken_at: clock.now() - FRESH_MS }));
    reopened.open();
    expect(reopened.link.phase).toBe("snapshot");
    reopened.receive({ kind: "heartbeat", seq: 4, session: "life-1", now: clock.now() });
    expect(reopened.link.phase).toBe("live");
  });

  it("survives a kernel that is not there", () => {
    goDead();
    const alone = new TreeStore({ clock, send: sendsTo, save: () => undefined });
    alone.load(snapshotOf());
    alone.open();
    expect(alone.link.phase).toBe("snapshot");
    expect(alone.tree.rows.length).toBe(5);
  });

  it("survives a host that rejects instead of throwing", async () => {
    sendsTo = () => Promise.reject(new Error("closed"));
    store.refresh("/");
    await Promise.resolve();
    await Promise.resolve();
    expect(store.link.phase).toBe("snapshot");
  });

  it("says so where the snapshot cannot be read", () => {
    const lost = new TreeStore({ clock, send: () => undefined, save: () => undefined });
    lost.load({ version: 9 });
    expect(lost.notice?.message).toBe(
      "A message from the kernel was left out: snapshot.version is 9, not 1.",
    );
    expect(lost.tree.rows).toEqual(["/"]);
  });

  it("draws what it can of a snapshot with a wrong node", () => {
    store.load({ ...snapshotOf({ seq: 5 }), nodes: { "/": loaded(1, ["a"]), "/a": { state: 1 } } });
    expect(store.tree.rows).toEqual(["/", "/a"]);
    expect(store.notice?.message).toContain('snapshot.nodes["/a"].state is 1');
  });
});

describe("patches", () => {
  it("folds numbered patches in, in all their parts", () => {
    beat();
    patch(5, {
      nodes: { "/agents": { count: 2, added: ["planner"] }, "/billing": loaded(7, ["x"]) },
      expand: ["/billing"],
      selected: "/billing",
      connection: { state: "reconnecting", since: 9, detail: null },
    });
    patch(6, { collapse: ["/agents"], selected: null });
    expect(store.tree.rows).toEqual(["/", "/agents", "/billing", "/billing/x"]);
    expect(store.tree.get("/agents")).toMatchObject({ count: 2, children: ["mail", "planner", "slack"] });
    expect(store.selected).toBeNull();
    expect(store.connection.state).toBe("reconnecting");
    expect(asked()).toEqual([]);
  });

  it("ignores a patch it has already", () => {
    patch(5, { nodes: { "/billing": loaded(1) } });
    patch(5, { nodes: { "/billing": loaded(2) } });
    patch(3, { nodes: { "/billing": loaded(3) } });
    expect(store.tree.get("/billing")?.count).toBe(1);
    expect(asked()).toEqual([]);
  });

  it("takes a malformed patch neither half nor whole, and asks for the state when the next one comes", () => {
    patch(5, { nodes: { "/billing": loaded(1), "/agents": { state: "odd" } as never } });
    expect(store.tree.get("/billing")).toBeUndefined();
    expect(store.notice?.message).toContain('patch.nodes["/agents"].state is "odd"');
    patch(6);
    expect(asked()).toEqual([{ kind: "resync", have: 4 }]);
  });

  it("never throws, whatever it is sent", () => {
    for (const junk of [
      undefined,
      null,
      7,
      "x",
      [],
      {},
      { kind: "dance" },
      { kind: "patch" },
      { kind: "error" },
    ]) {
      store.receive(junk);
      expect(store.notice?.code).toBe("BAD_MESSAGE");
    }
    expect(store.tree.rows.length).toBe(5);
  });
});

describe("gaps", () => {
  it("asks once for what it missed, ignores patches, and goes on from the snapshot", () => {
    beat();
    patch(6, { nodes: { "/billing": loaded(6) } });
    patch(7, { nodes: { "/billing": loaded(7) } });
    expect(asked()).toEqual([{ kind: "resync", have: 4 }]);
    expect(store.tree.get("/billing")).toBeUndefined();
    store.load(snapshotOf({ seq: 7, nodes: { "/": loaded(1, ["billing"]), "/billing": loaded(70) } }));
    patch(8, { nodes: { "/billing": { count: 80 } } });
    expect(store.tree.get("/billing")?.count).toBe(80);
    clock.advance(RESYNC_RETRY_MS * 2);
    expect(asked().length).toBe(1);
  });

  it("asks again every two seconds while no answer comes", () => {
    patch(6);
    clock.advance(RESYNC_RETRY_MS);
    clock.advance(RESYNC_RETRY_MS);
    expect(asked().length).toBe(3);
  });

  it("does not take an older snapshot for the answer", () => {
    patch(9);
    store.load(snapshotOf({ seq: 8, nodes: { "/": loaded(1, ["old"]) } }));
    expect(store.tree.rows).not.toContain("/old");
    store.load(snapshotOf({ seq: 9, nodes: { "/": loaded(1, ["new"]) } }));
    expect(store.tree.rows).toEqual(["/", "/new"]);
  });

  it("notices by the heartbeat that the last patch was the lost one", () => {
    beat(4);
    expect(asked()).toEqual([]);
    beat(5);
    expect(asked()).toEqual([{ kind: "resync", have: 4 }]);
  });

  it("asks for the state of another life of the kernel, and takes it whatever its number", () => {
    patch(5);
    beat(1, "life-2");
    expect(store.link.phase).toBe("live");
    expect(asked()).toEqual([{ kind: "resync", have: 5 }]);
    store.load(snapshotOf({ seq: 1, session: "life-2", nodes: { "/": loaded(9) } }));
    expect(store.tree.get("/")?.count).toBe(9);
    patch(2, { nodes: { "/": { count: 10 } } });
    expect(store.tree.get("/")?.count).toBe(10);
  });

  it("is not alive by a heartbeat that belongs to another life", () => {
    beat(4, "life-2");
    expect(store.link.phase).toBe("connecting");
  });

  it("leaves a snapshot alone that says nothing new, so that nobody's clicks are undone", () => {
    beat();
    store.collapse("/agents");
    store.load(snapshotOf());
    expect(store.tree.isExpanded("/agents")).toBe(false);
    store.load(snapshotOf({ seq: 5 }));
    expect(store.tree.isExpanded("/agents")).toBe(true);
  });
});

describe("the link", () => {
  it("is cut off by silence, and back with the next heartbeat", () => {
    beat();
    clock.advance(6_000);
    expect(store.link.phase).toBe("cut");
    expect(store.canAsk).toBe(false);
    beat();
    expect(store.link.phase).toBe("live");
    expect(asked()).toEqual([]);
  });

  it("asks for the state on its return if the numbers differ, even downwards", () => {
    beat();
    clock.advance(6_000);
    beat(3);
    expect(asked()).toEqual([{ kind: "resync", have: 4 }]);
  });

  it("is cut off when the front end says so, and asks whether that is true", () => {
    beat();
    sent.length = 0;
    store.doubt();
    expect(store.link.phase).toBe("cut");
    expect(sent).toEqual([{ kind: "hello" }]);
    beat();
    expect(store.link.phase).toBe("live");
  });

  it("is cut off by a message that cannot be sent", () => {
    beat();
    goDead();
    store.refresh("/");
    expect(store.link.phase).toBe("cut");
  });

  it("knows when the data was true: at the last heartbeat", () => {
    clock.advance(1_000);
    beat();
    expect(store.takenAt).toBe(clock.now());
  });

  it("flows only while the kernel itself is connected", () => {
    expect(store.isFlowing).toBe(false);
    beat();
    expect(store.isFlowing).toBe(true);
    patch(5, { connection: { state: "reconnecting", since: 0, detail: null } });
    expect(store.isFlowing).toBe(false);
  });
});

describe("what a person does", () => {
  it("opens and closes at once, and tells the kernel", () => {
    beat();
    sent.length = 0;
    store.toggle("/agents");
    expect(store.tree.rows).toEqual(["/", "/agents", "/billing"]);
    store.toggle("/agents");
    store.toggle("/billing");
    store.select("/billing");
    store.refresh("/billing");
    expect(store.selected).toBe("/billing");
    expect(sent).toEqual([
      { kind: "collapse", path: "/agents" },
      { kind: "expand", path: "/agents" },
      { kind: "expand", path: "/billing" },
      { kind: "select", path: "/billing" },
      {
        kind: "events",
        request: expect.any(Number),
        path: "/billing",
        before: null,
        after: null,
        type: null,
      },
      { kind: "refresh", path: "/billing" },
    ]);
  });

  it("opens what it knows without a kernel, and nothing that could only stay empty", () => {
    clock.advance(6_000);
    store.collapse("/agents");
    store.expand("/agents");
    store.expand("/billing");
    expect(store.tree.isExpanded("/agents")).toBe(true);
    expect(store.tree.isExpanded("/billing")).toBe(false);
  });

  it("tells the kernel on its return what was done in its absence, the last word only", () => {
    beat();
    clock.advance(6_000);
    sent.length = 0;
    store.collapse("/agents");
    store.collapse("/");
    store.expand("/");
    store.select("/agents");
    store.select("/billing");
    expect(sent).toEqual([]);
    beat();
    expect(sent).toEqual([
      { kind: "collapse", path: "/agents" },
      { kind: "expand", path: "/" },
      { kind: "select", path: "/billing" },
      {
        kind: "events",
        request: expect.any(Number),
        path: "/billing",
        before: null,
        after: null,
        type: null,
      },
    ]);
    sent.length = 0;
    beat();
    expect(sent).toEqual([]);
  });

  it("keeps for later what could not be sent", () => {
    beat();
    goDead();
    store.collapse("/agents");
    sendsTo = () => undefined;
    sent.length = 0;
    beat();
    expect(sent).toEqual([{ kind: "collapse", path: "/agents" }]);
  });
});

describe("the notice", () => {
  it("stands until the next good patch, or until it is dismissed", () => {
    const trouble = () => store.receive({ kind: "error", error: failure("the token has expired") });
    trouble();
    expect(store.notice?.message).toBe("the token has expired");
    beat();
    expect(store.notice).not.toBeNull();
    patch(5);
    expect(store.notice).toBeNull();
    trouble();
    store.dismiss();
    expect(store.notice).toBeNull();
  });
});

describe("the saved snapshot", () => {
  it("is written when the tree has rested for a second, and is what a reader would load", () => {
    beat();
    patch(5, { nodes: { "/billing": blank({ state: "loading" }) }, selected: "/billing" });
    clock.advance(QUIET_MS - 1);
    patch(6, { nodes: { "/billing": loaded(7) } });
    clock.advance(QUIET_MS - 1);
    expect(saved).toEqual([]);
    clock.advance(1);
    const nodes = snapshotOf().nodes;
    expect(saved).toEqual([
      snapshotOf({
        seq: 6,
        taken_at: store.takenAt,
        selected: "/billing",
        nodes: { ...nodes, "/agents": loaded(1, ["mail", "slack"]), "/billing": loaded(7) },
      }),
    ]);
    clock.advance(60_000);
    expect(saved.length).toBe(1);
  });

  it("is not taken for news from the kernel, not even while an answer is awaited", () => {
    beat();
    patch(5, { nodes: { "/billing": loaded(7) } });
    clock.advance(900);
    store.doubt();
    beat(3);
    expect(asked().length).toBe(1);
    clock.advance(RESYNC_RETRY_MS);
    expect(saved.length).toBe(1);
    expect(asked().length).toBe(2);
  });

  it("is written now and then although the tree never rests", () => {
    let seq = 4;
    for (let elapsed = 0; elapsed < MAX_UNSAVED_MS * 2 + 1_000; elapsed += 500) {
      patch(++seq);
      clock.advance(500);
    }
    expect(saved.length).toBe(2);
  });

  it("keeps what was opened without a kernel", () => {
    clock.advance(6_000);
    store.collapse("/agents");
    clock.advance(QUIET_MS);
    expect(saved.map(({ expanded, taken_at }) => ({ expanded, taken_at }))).toEqual([
      { expanded: ["/"], taken_at: snapshotOf().taken_at },
    ]);
  });
});

it("tells its listeners of every change, and none after they left", () => {
  let count = 0;
  const unsubscribe = store.subscribe(() => count++);
  patch(5);
  const heard = count;
  expect(heard).toBeGreaterThan(0);
  unsubscribe();
  patch(6);
  expect(count).toBe(heard);
});

it("leaves no timer behind when closed", () => {
  beat();
  patch(5);
  patch(9);
  store.close();
  expect(clock.pending).toBe(0);
});

describe("what a person did a moment ago", () => {
  beforeEach(() => {
    beat();
    store.expand("/agents");
    store.collapse("/agents");
    store.expand("/agents");
  });

  it("is not undone by the echo of what they did before", () => {
    patch(5, { collapse: ["/agents"] });
    expect(store.tree.isExpanded("/agents")).toBe(true);
    patch(6, { expand: ["/agents"] });
    clock.advance(ECHO_MS);
    expect(store.tree.isExpanded("/agents")).toBe(true);
  });

  it("gives way to the kernel's last word when the echoes are over", () => {
    patch(5, { collapse: ["/agents", "/billing"] });
    expect(store.tree.isExpanded("/agents")).toBe(true);
    let changes = 0;
    store.subscribe(() => changes++);
    clock.advance(ECHO_MS);
    expect([store.tree.isExpanded("/agents"), changes > 0]).toEqual([false, true]);
    store.expand("/agents");
    clock.advance(ECHO_MS);
    patch(6, { collapse: ["/agents"] });
    expect(store.tree.isExpanded("/agents")).toBe(false);
  });

  it("holds for each matter from its own last time on", () => {
    clock.advance(ECHO_MS - 1);
    store.select("/agents/mail");
    patch(5, { collapse: ["/agents"], selected: "/agents" });
    clock.advance(1);
    expect([store.tree.isExpanded("/agents"), store.selected]).toEqual([false, "/agents/mail"]);
    patch(6, { selected: "/billing" });
    clock.advance(ECHO_MS);
    expect([store.selected, store.details.path]).toEqual(["/billing", "/billing"]);
  });

  it("gives way to a whole snapshot at once", () => {
    patch(9);
    store.load(snapshotOf({ seq: 9, expanded: ["/"] }));
    expect(store.tree.isExpanded("/agents")).toBe(false);
    clock.advance(ECHO_MS);
    expect(store.tree.isExpanded("/agents")).toBe(false);
  });
});
