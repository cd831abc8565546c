import { beforeEach, expect, it } from "vitest";
import type { EventPage, Outgoing, StreamEvent } from "../src/channel.ts";
import { Details, FOLLOW_MS, MAX_EVENTS, PAGE_RETRY_MS, PATIENCE_MS, POLL_MS } from "../src/details.ts";
import { FakeClock } from "./helpers/FakeClock.ts";
import { aboutOf, failure } from "./helpers/values.ts";

type Asked = Extract<Outgoing, { kind: "events" }>;

let clock: FakeClock;
let sent: Outgoing[];
let changes: number;
let details: Details;

beforeEach(() => {
  clock = new FakeClock();
  sent = [];
  changes = 0;
  details = new Details({ clock, send: (message) => sent.push(message), onChange: () => changes++ });
});

/** Events from `newest` down to `oldest`. */
function events(newest: number, oldest: number): StreamEvent[] {
  const offsets = Array.from({ length: newest - oldest + 1 }, (_, i) => newest - i);
  return offsets.map((offset) => ({ offset, type: "demo", createdAt: "2026-11-23T12:00:00.000Z" }));
}

/** Answer the last question with events that reach back to what was asked for, or to `oldest`. */
function answer(newest: number, oldest: number, more: Partial<EventPage> = {}): void {
  const { request, before: end, after } = sent.at(-1) as Asked;
  const before = oldest > (after ?? 0) + 1 ? oldest : null;
  const about = end === null ? aboutOf({ count: newest }) : null;
  const page = { events: events(newest, oldest), before, about, error: null };
  details.take({ kind: "events", request, ...page, ...more });
}

const offsets = () => details.events.map(({ offset }) => offset);

it("asks for the newest page, and for older ones from where it ended", () => {
  details.open("/a");
  expect(sent).toEqual([{ kind: "events", request: 1, path: "/a", before: null, after: null, type: null }]);
  expect(details.loading).toBe("newest");
  answer(6, 4);
  details.older();
  expect(details.loading).toBe("older");
  expect(sent.at(-1)).toEqual({ kind: "events", request: 2, path: "/a", before: 4, after: null, type: null });
  answer(3, 1);
  expect([offsets(), details.before, details.loading]).toEqual([[6, 5, 4, 3, 2, 1], null, null]);
});

it("asks again for a page that was lost, and takes the answer once", () => {
  details.open("/a");
  details.note(2);
  clock.advance(PAGE_RETRY_MS);
  expect(sent.length).toBe(2);
  expect(sent[1]).toEqual(sent[0]);
  answer(2, 1);
  answer(2, 1);
  expect(offsets()).toEqual([2, 1]);
  clock.advance(PAGE_RETRY_MS);
  expect(sent.length).toBe(2);
});

it("follows the count, at its own pace, and asks for what is new", () => {
  details.open("/a");
  details.note(3);
  answer(3, 1);
  for (let count = 4; count < 10; count++) details.note(count);
  expect(sent.length).toBe(2);
  expect(sent.at(-1)).toMatchObject({ before: null, after: 3 });
  answer(8, 4);
  expect([offsets(), details.before]).toEqual([[8, 7, 6, 5, 4, 3, 2, 1], null]);
  details.note(10);
  clock.advance(FOLLOW_MS);
  expect(sent.at(-1)).toMatchObject({ before: null, after: 8 });
  expect(sent.length).toBe(3);
});

it("starts anew where it missed some, and says where the rest is", () => {
  details.open("/a");
  answer(3, 1);
  details.note(90);
  answer(90, 66);
  expect([offsets().at(-1), details.before]).toEqual([66, 66]);
});

it("keeps no more than it may", () => {
  details.open("/a");
  answer(MAX_EVENTS + 10, 11);
  details.note(MAX_EVENTS + 20);
  answer(MAX_EVENTS + 20, MAX_EVENTS + 11);
  expect([offsets()[0], details.events.length, details.before]).toEqual([MAX_EVENTS + 20, MAX_EVENTS, 21]);
});

it("starts anew where the stream was erased, however long it is by now", () => {
  details.open("/a");
  details.note(9);
  answer(9, 1);
  details.note(3);
  answer(3, 1);
  expect([offsets(), details.before]).toEqual([[3, 2, 1], null]);
  details.note(8);
  clock.advance(FOLLOW_MS);
  answer(8, 4, { about: aboutOf({ count: 8, created_at: "another life" }) });
  expect([offsets(), details.loading]).toEqual([[], "newest"]);
  expect(sent.at(-1)).toMatchObject({ after: null });
  answer(8, 1, { about: aboutOf({ count: 8, created_at: "another life" }) });
  expect(offsets().length).toBe(8);
});

it("looks now and then at a stream of which the tree tells nothing, unless it is paused", () => {
  details.open("/elsewhere");
  answer(2, 1);
  clock.advance(POLL_MS);
  expect(sent.at(-1)).toMatchObject({ request: 2, after: 2 });
  answer(3, 3);
  expect(offsets()).toEqual([3, 2, 1]);
  details.toggleFollowing();
  clock.advance(3 * POLL_MS);
  expect([sent.length, clock.pending]).toEqual([2, 0]);
  details.toggleFollowing();
  expect(sent.length).toBe(3);
});

it("counts what it does not show while it is paused, and catches up", () => {
  details.open("/a");
  details.note(2);
  answer(2, 1);
  details.toggleFollowing();
  details.note(5);
  clock.advance(FOLLOW_MS);
  expect([sent.length, details.unseen]).toEqual([1, 3]);
  details.toggleFollowing();
  expect(sent.length).toBe(2);
  answer(5, 3);
  expect([offsets(), details.unseen]).toEqual([[5, 4, 3, 2, 1], 0]);
});

it("asks for one type, and drops an answer for another stream", () => {
  details.open("/a");
  details.open("/b", "demo.paid");
  expect(sent.at(-1)).toEqual({
    kind: "events",
    request: 2,
    path: "/b",
    before: null,
    after: null,
    type: "demo.paid",
  });
  details.take({ kind: "events", request: 1, events: events(9, 1), before: null, about: null, error: null });
  expect(offsets()).toEqual([]);
});

it("says what failed, keeps what it had, and tries the same again", () => {
  details.open("/a");
  answer(40, 16);
  details.older();
  answer(0, 1, { events: [], error: failure("gone") });
  expect([details.error?.message, offsets().length]).toEqual(["gone", 25]);
  details.retry();
  expect(sent.at(-1)).toMatchObject({ before: 16 });
  answer(15, 1);
  expect([details.error, offsets().length]).toEqual([null, 40]);
});

it("says when nobody answers for long, and goes on asking", () => {
  details.open("/a");
  const askedAt = clock.now();
  clock.advance(PATIENCE_MS - 1);
  expect(details.unansweredSince).toBe(null);
  const before = changes;
  clock.advance(1);
  expect([details.unansweredSince, changes > before]).toEqual([askedAt, true]);
  expect(sent.length).toBe(1 + PATIENCE_MS / PAGE_RETRY_MS);
  details.retry();
  expect(sent.at(-1)).toMatchObject({ request: 2, before: null });
  answer(1, 1);
  expect(details.unansweredSince).toBe(null);
});

it("does not wait for its next try when somebody is there again", () => {
  details.wake();
  details.open("/a");
  details.wake();
  expect(sent.map((message) => message.kind)).toEqual(["events", "events"]);
  answer(1, 1);
  details.wake();
  expect(sent.length).toBe(2);
});

it("keeps what is said of the stream, and the types seen, until another is shown", () => {
  details.open("/a");
  answer(2, 1, { about: aboutOf({ count: 2 }) });
  details.open("/a", "other");
  answer(1, 1, { events: [{ offset: 1, type: "a.first", createdAt: "" }], about: null });
  expect([details.about?.count, details.types]).toEqual([2, ["a.first", "demo"]]);
  details.open("/b");
  expect([details.about, details.types]).toEqual([null, []]);
});

it("counts its requests on from where it was told", () => {
  details = new Details({
    clock,
    send: (message) => sent.push(message),
    onChange: () => {},
    firstRequest: 700,
  });
  details.open("/a");
  expect(sent.at(-1)).toMatchObject({ request: 701 });
});

it("leaves no timer when it is closed", () => {
  details.open("/a");
  details.close();
  expect(clock.pending).toBe(0);
});
