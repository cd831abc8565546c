// Functions of the client that the server calls, at once or later, and functions recorded by map.

import { dispose, turn } from "../capnweb.mjs";
import { outcome } from "../describe.mjs";

export const callbacks = {
  "callback-sync": (t) => outcome(t.main.call((n) => n + 1, 4)),
  "callback-async": (t) =>
    outcome(
      t.main.call(async (n) => {
        await turn();
        return n + 1;
      }, 4),
    ),
  "callback-after-a-turn": (t) => outcome(t.main.callLater((n) => n + 1, 4)),
  "callback-several-arguments": (t) => outcome(t.main.call((a, b) => `${a}${b}`, "x", 2)),
  "callback-surplus-arguments": (t) => outcome(t.main.call((n) => n + 1, 4, "more", "still more")),
  "callback-missing-argument": async (t) => JSON.parse(await t.main.describeCall((_n, other) => other, 4)),
  "callback-returns-nothing": async (t) => JSON.parse(await t.main.describeCall(() => {})),
  "callback-throws": async (t) =>
    JSON.parse(
      await t.main.describeCall(() => {
        throw new RangeError("in the callback");
      }),
    ),
  "callback-async-throws": async (t) =>
    JSON.parse(
      await t.main.describeCall(async () => {
        await turn();
        throw new RangeError("in the callback");
      }),
    ),
  "callback-throws-through": (t) =>
    outcome(
      t.main.call(() => {
        throw new RangeError("in the callback");
      }),
    ),
  "callback-inside-an-object": (t) => outcome(t.main.callMember({ on: { event: (n) => n * 3 } }, 5)),
  "callback-returns-a-target": async (t) => {
    const got = await t.main.useReturned(() => t.counter(1));
    await t.main.square(0);
    return [got, t.log];
  },
  "callback-calls-the-server": (t) => outcome(t.main.call((n) => t.main.square(n), 5)),
  "callback-gets-a-stub": (t) =>
    outcome(t.main.call((counter) => counter.increment(2), t.hold(t.main.makeCounter(1)))),
  "callback-released-after-the-call": async (t) => {
    await t.main.call(() => 1);
    return t.connection.stats().exports;
  },
  "callback-used-after-the-call": async (t) => {
    // The server keeps none without dup(): the second call must not find the first one's function.
    await t.main.call(() => 1);
    return await outcome(t.main.call(() => 2));
  },
  "callback-kept-in-order": async (t) => {
    const seen = [];
    await t.main.keep((i) => {
      seen.push(i);
    });
    const got = await t.main.callKept(100);
    await t.main.dropKept();
    return [got, seen.length, seen.every((value, i) => value === i)];
  },
  "callback-kept-async-in-order": async (t) => {
    const started = [];
    await t.main.keep(async (i) => {
      started.push(i);
      await turn();
    });
    await t.main.callKept(20);
    await t.main.dropKept();
    return started.join(" ");
  },

  "map-list": (t) => outcome(t.hold(t.main.numbers(4)).map((n) => t.main.square(n))),
  "map-empty-list": (t) => outcome(t.hold(t.main.numbers(0)).map((n) => t.main.square(n))),
  "map-null": (t) => outcome(t.hold(t.main.give("null")).map((n) => t.main.square(n))),
  "map-undefined": (t) => outcome(t.hold(t.main.give("undefined")).map((n) => t.main.square(n))),
  "map-single-value": (t) => outcome(t.hold(t.main.square(3)).map((n) => t.main.square(n))),
  "map-property": (t) => outcome(t.main.config.map((config) => config.limits.depth)),
  "map-builds-objects": (t) =>
    outcome(
      t.hold(t.main.numbers(2)).map((n) => ({ n, square: t.main.square(n), list: [n, [n]], text: "t" })),
    ),
  "map-nested": (t) =>
    outcome(t.hold(t.main.numbers(3)).map((n) => t.main.numbers(n).map((m) => t.main.collect(n, m)))),
  "map-over-targets": async (t) => {
    const counters = t.main.makeTriplet();
    const got = await outcome(counters.map((counter) => counter.increment(2)));
    dispose(counters);
    return [got, await t.main.takeLog()];
  },
  "map-over-slow-results": (t) => outcome(t.hold(t.main.numbers(3)).map((n) => t.main.later(n))),
  "map-that-fails": async (t) => {
    const got = await outcome(t.hold(t.main.numbers(2)).map((n) => t.main.fail(n)));
    return "$thrown" in got;
  },
  "map-of-a-rejection": async (t) =>
    (await outcome(t.hold(t.main.fail("type")).map((n) => t.main.square(n)))).$thrown.$error.name,
  "map-captures-a-stub": async (t) => {
    const counter = await t.main.makeCounter();
    const got = await outcome(t.hold(t.main.numbers(3)).map(() => counter.increment(1)));
    dispose(counter);
    return [got, await t.main.takeLog()];
  },
};
