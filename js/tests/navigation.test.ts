import { beforeEach, expect, it } from "vitest";
import type { Outgoing } from "../src/channel.ts";
import { ASK_AGAIN_MS, Navigation, PATIENCE_MS } from "../src/navigation.ts";
import { FakeClock } from "./helpers/FakeClock.ts";
import { failure } from "./helpers/values.ts";

let clock: FakeClock;
let sent: Outgoing[];
let known: Set<string>;
let gone: string[];
let navigation: Navigation;

beforeEach(() => {
  clock = new FakeClock();
  sent = [];
  known = new Set();
  gone = [];
  navigation = new Navigation({
    clock,
    send: (message) => sent.push(message),
    isKnown: (path) => known.has(path),
    onChange: () => undefined,
    onCreated: (path) => gone.push(path),
  });
});

const created = (path: string | null, error = null as ReturnType<typeof failure> | null, request = 1) =>
  ({ kind: "created", request, path, error }) as const;

it("asks for children, and asks again until they are there", () => {
  navigation.look("/a");
  clock.advance(ASK_AGAIN_MS);
  known.add("/a");
  clock.advance(PATIENCE_MS);
  expect(sent).toEqual([
    { kind: "look", path: "/a" },
    { kind: "look", path: "/a" },
  ]);
  expect(navigation.isLate("/a")).toBe(false);
  expect(clock.pending).toBe(0);
});

it("says that children do not come, and asks anew when told to", () => {
  navigation.look("/a");
  clock.advance(PATIENCE_MS + ASK_AGAIN_MS);
  expect([navigation.isLate("/a"), navigation.isLate("/b")]).toEqual([true, false]);
  expect(clock.pending).toBe(0);
  navigation.look("/a");
  expect(navigation.isLate("/a")).toBe(false);
});

it("lets the kernel rest when the list is closed, unless another was opened", () => {
  navigation.look("/a");
  navigation.look("/b");
  navigation.leave("/a");
  expect(sent.at(-1)).toEqual({ kind: "look", path: "/b" });
  navigation.leave("/b");
  expect(sent.at(-1)).toEqual({ kind: "look", path: null });
  expect(clock.pending).toBe(0);
});

it("asks for a stream under one number until it is told that it is there, and goes there once", () => {
  navigation.create("/a", "b");
  clock.advance(ASK_AGAIN_MS);
  expect(sent).toEqual([
    { kind: "create", request: 1, parent: "/a", name: "b" },
    { kind: "create", request: 1, parent: "/a", name: "b" },
  ]);
  navigation.take(created("/a/b"));
  navigation.take(created("/a/b"));
  expect([gone, navigation.creation, clock.pending]).toEqual([["/a/b"], null, 0]);
});

it("keeps what was wrong with a stream, with what was typed", () => {
  navigation.create("/a", "b");
  navigation.take(created(null, failure("no")));
  expect(navigation.creation).toMatchObject({ parent: "/a", name: "b", isWaiting: false });
  expect(navigation.creation?.error?.message).toBe("no");
  expect([gone, clock.pending]).toEqual([[], 0]);
});

it("stops waiting for a stream that nobody confirms, and takes no word of an earlier request", () => {
  navigation.create("/a", "b");
  clock.advance(PATIENCE_MS + ASK_AGAIN_MS);
  expect(navigation.creation?.error?.hint).toMatch(/^Try again/);
  navigation.create("/a", "b");
  navigation.take(created("/a/b", null, 1));
  expect([gone, navigation.creation?.isWaiting]).toEqual([[], true]);
  navigation.dropCreation();
  navigation.take(created("/a/b", null, 2));
  expect([gone, clock.pending]).toEqual([[], 0]);
});
