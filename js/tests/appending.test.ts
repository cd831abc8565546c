import { beforeEach, expect, it } from "vitest";
import { Appending, PATIENCE_MS, payloadFaultOf, SEND_AGAIN_MS, typeFaultOf } from "../src/appending.ts";
import type { Outgoing } from "../src/channel.ts";
import { makeFirstNumber, makeKey } from "../src/keys.ts";
import { FakeClock } from "./helpers/FakeClock.ts";
import { failure } from "./helpers/values.ts";

let clock: FakeClock;
let sent: Outgoing[];
let changes: number;
let appending: Appending;

beforeEach(() => {
  clock = new FakeClock();
  sent = [];
  changes = 0;
  let keys = 0;
  appending = new Appending({
    clock,
    send: (message) => sent.push(message),
    onChange: () => changes++,
    makeKey: () => `key-${++keys}`,
  });
});

const requests = () => sent.map((message) => ("request" in message ? message.request : null));
const answer = (request: string, more: object) =>
  appending.take({ kind: "appended", request, offset: null, error: null, ...more });

function submit(payload = '{"n": 1}'): void {
  appending.write("/a", { type: " demo.paid ", payload });
  appending.submit("/a");
}

it("sends what is typed, and clears the payload when it is there", () => {
  submit();
  expect(sent).toEqual([
    { kind: "append", request: "key-1", path: "/a", type: "demo.paid", payload: '{"n": 1}' },
  ]);
  expect(appending.get("/a").outcome).toEqual({ phase: "asked" });
  answer("key-1", { offset: 7 });
  expect(appending.get("/a")).toMatchObject({ payload: "", outcome: { phase: "done", offset: 7 } });
  expect(appending.get("/a").type).toBe(" demo.paid ");
  expect([clock.pending, changes > 0]).toEqual([0, true]);
});

it("sends an event without a payload where none is typed", () => {
  submit(" \n");
  expect(sent.at(-1)).toMatchObject({ payload: null });
});

it("sends nothing that could not be appended, and then says what is missing", () => {
  appending.submit("/a");
  expect([sent, appending.get("/a").isTried]).toEqual([[], true]);
  submit("{");
  expect([sent, appending.get("/a").outcome]).toEqual([[], { phase: "idle" }]);
});

it("sends again under the same key until an answer comes", () => {
  submit();
  clock.advance(2 * SEND_AGAIN_MS);
  expect(requests()).toEqual(["key-1", "key-1", "key-1"]);
  answer("key-1", { offset: 7 });
  answer("key-1", { offset: 7 });
  clock.advance(PATIENCE_MS);
  expect(requests().length).toBe(3);
});

it("gives up waiting, keeps the text, and tries the same event again", () => {
  submit();
  clock.advance(PATIENCE_MS);
  const { outcome, payload } = appending.get("/a");
  expect([outcome.phase, payload]).toEqual(["failed", '{"n": 1}']);
  expect([requests().length, clock.pending]).toEqual([PATIENCE_MS / SEND_AGAIN_MS, 0]);
  appending.submit("/a");
  expect(requests().at(-1)).toBe("key-1");
});

it("takes an answer that comes after all", () => {
  submit();
  clock.advance(PATIENCE_MS);
  answer("key-1", { offset: 7 });
  expect(appending.get("/a").outcome).toEqual({ phase: "done", offset: 7 });
});

it("says why it was refused, and makes another event of what is corrected", () => {
  submit();
  answer("key-1", { error: failure("stream paused") });
  expect(appending.get("/a")).toMatchObject({
    payload: '{"n": 1}',
    outcome: { phase: "failed", error: { message: "stream paused" } },
  });
  appending.write("/a", { payload: '{"n": 2}' });
  expect(appending.get("/a").outcome.phase).toBe("idle");
  appending.submit("/a");
  expect(requests()).toEqual(["key-1", "key-2"]);
  answer("key-1", { offset: 3 });
  expect(appending.get("/a").outcome.phase).toBe("asked");
});

it("does not let what is on its way be changed or sent twice", () => {
  submit();
  appending.write("/a", { payload: "2" });
  appending.submit("/a");
  expect([appending.get("/a").payload, sent.length]).toEqual(['{"n": 1}', 1]);
});

it("keeps what is typed for each stream", () => {
  appending.write("/a", { type: "one" });
  appending.write("/b", { payload: "2" });
  expect([appending.get("/a").type, appending.get("/b").payload, appending.get("/b").type]).toEqual([
    "one",
    "2",
    "",
  ]);
});

it("leaves no timer when it is closed", () => {
  submit();
  appending.close();
  expect(clock.pending).toBe(0);
});

it("knows what the engine would not take", () => {
  expect([typeFaultOf("demo"), typeFaultOf(" "), typeFaultOf("\ud800")]).toEqual([
    null,
    "The event needs a type: a word for what happened.",
    "The type holds half a character.",
  ]);
  expect([payloadFaultOf(""), payloadFaultOf("1"), payloadFaultOf("[1,\n]")]).toEqual([
    null,
    null,
    { line: 1, column: 3, message: "no comma may stand before “]”" },
  ]);
});

it("makes keys that nobody else has", () => {
  expect(new Set(Array.from({ length: 100 }, makeKey)).size).toBe(100);
  expect(makeKey()).toMatch(/^[0-9a-f]{24}$/);
  expect(Number.isSafeInteger(makeFirstNumber() + 2 ** 30)).toBe(true);
});
