// Calls, properties, pipelining, what may be reached by a path, and the order in which calls start.

import { dispose } from "../capnweb.mjs";
import { describe, outcome } from "../describe.mjs";

/** Those of `names` that are there on `stub`, or can be called. */
async function findReachable(stub, names) {
  const found = [];
  for (const name of names) {
    if ((await outcome(stub[name]))?.$undefined !== true) found.push(name);
    const called = await outcome(stub[name]("x"));
    if (!called?.$thrown?.$error?.message.endsWith(`${name}' is not a function.`)) found.push(`${name}()`);
  }
  return found;
}

export const calls = {
  "call-returns": (t) => outcome(t.main.square(7)),
  "call-arguments-in-order": (t) => outcome(t.main.collect("a", 2, null)),
  "call-without-arguments": (t) => outcome(t.main.collect()),
  "call-default-argument": (t) => outcome(t.main.greet()),
  "call-undefined-takes-the-default": (t) => outcome(t.main.greet(undefined, "?")),
  "call-surplus-arguments": (t) => outcome(t.main.square(3, "more")),
  "call-missing-argument": (t) => outcome(t.main.square()),
  "call-async-method": (t) => outcome(t.main.later("x")),
  "call-returns-nothing": (t) => outcome(t.main.nothing()),
  "call-two-hundred-in-flight": async (t) => {
    const squares = await Promise.all(Array.from({ length: 200 }, (_, i) => t.main.square(i)));
    return squares.reduce((sum, square) => sum + square, 0);
  },
  "call-two-thousand-slow-in-flight": async (t) => {
    const numbers = await Promise.all(Array.from({ length: 2000 }, (_, i) => t.main.later(i)));
    return numbers.reduce((sum, number) => sum + number, 0);
  },
  "call-a-property": (t) => outcome(t.main.answer()),
  "call-a-function": async (t) => {
    const add = await t.main.makeAdder(5);
    const got = await add(3);
    dispose(add);
    return got;
  },

  getter: (t) => outcome(t.main.answer),
  "getter-runs-every-time": async (t) => [await t.main.ticks, await t.main.ticks],
  "getter-that-throws": (t) => outcome(t.main.sour),
  "property-of-a-property": (t) => outcome(t.main.config.limits.depth),
  "property-of-a-result": (t) => outcome(t.hold(t.main.give("object")).b.c),
  "index-as-text": (t) => outcome(t.main.config.names["1"]),
  "index-as-number": (t) => outcome(t.main.config.names[1]),
  "instance-property-refused": async (t) => {
    const { $thrown } = await outcome(t.main.inside);
    const { name, message } = $thrown.$error;
    return [name, message.includes("inside") && message.includes("instance property")];
  },
  "class-constant-hidden": (t) => outcome(t.main.motto),
  "missing-member": (t) => outcome(t.main.nope),
  "missing-method": (t) => outcome(t.main.nope(1)),
  "missing-method-of-a-result": (t) => outcome(t.hold(t.main.makeTree()).self.nope()),
  "missing-method-of-a-value": (t) => outcome(t.main.config.limits.nope()),
  "below-undefined": async (t) => (await outcome(t.main.nope.deeper)).$thrown.$error.name,
  "underscore-method": (t) => outcome(t.main._private()),
  "members-of-text": (t) =>
    findReachable(t.hold(t.main.greet()), ["length", "at", "toUpperCase", "upper", "format", "encode"]),
  "members-of-a-list": (t) =>
    findReachable(t.main.config.names, ["length", "push", "pop", "append", "sort", "at"]),
  "members-of-a-date": (t) =>
    findReachable(t.main.config.started, ["getTime", "year", "replace", "isoformat"]),
  "members-of-a-function": (t) =>
    findReachable(t.hold(t.main.makeAdder(1)), [
      "call",
      "apply",
      "bind",
      "__globals__",
      "__code__",
      "__self__",
    ]),
  "members-of-an-object": (t) =>
    findReachable(t.main.config, ["keys", "get", "update", "__class__", "__dict__"]),
  "members-of-a-target": (t) =>
    findReachable(t.main, ["__class__", "__dict__", "__init__", "__init_subclass__"]),

  "pipelining-three-deep": (t) =>
    outcome(t.hold(t.hold(t.hold(t.main.makeTree()).child("a")).child("b")).path),
  "pipelining-through-a-property": (t) =>
    outcome(t.hold(t.hold(t.main.makeTree()).self.child("a")).self.path),
  "pipelining-into-an-object": (t) => outcome(t.hold(t.main.makeBox(4)).counter.increment(2)),
  "pipelining-calls-a-result": (t) => outcome(t.hold(t.main.makeAdder(5))(3)),
  "pipelining-on-a-slow-result": (t) => outcome(t.hold(t.main.makeCounterLater(4)).increment()),
  "await-twice": async (t) => {
    const promise = t.main.ticks;
    return [await promise, await promise];
  },
  "await-after-pipelining": async (t) => {
    const promise = t.main.makeCounter(3);
    const got = [await promise.increment(), await promise.increment(10)];
    const counter = await promise;
    got.push(await counter.value);
    dispose(counter);
    return got;
  },
  "pipelined-on-a-rejection": (t) => outcome(t.hold(t.hold(t.main.fail("type")).child("a")).path),
  "pipelined-on-a-late-rejection": (t) => outcome(t.hold(t.hold(t.main.failLater("range")).child("a")).path),

  "member-as-a-value": async (t) => {
    const square = await t.main.square;
    const got = [await describe(square), await square(6)];
    dispose(square);
    return got;
  },
  "member-of-a-result-as-a-value": async (t) => {
    const counter = await t.main.makeCounter(1);
    const increment = await counter.increment;
    const got = await outcome(increment(4));
    dispose(increment);
    dispose(counter);
    return got?.$thrown?.$error.name ?? got;
  },
  "member-as-an-argument": (t) => outcome(t.main.call(t.main.square, 5)),

  "promise-as-an-argument": (t) => outcome(t.main.square(t.hold(t.main.square(3)))),
  "promise-twice-as-an-argument": (t) => {
    const nine = t.hold(t.main.square(3));
    return outcome(t.main.collect(nine, nine));
  },
  "promise-inside-an-argument": async (t) =>
    JSON.parse(await t.main.describe({ a: [t.hold(t.main.square(3)), { b: t.hold(t.main.greet()) }] })),
  "promise-of-a-property-as-an-argument": (t) => outcome(t.main.square(t.main.config.limits.depth)),
  "promise-of-a-slow-result-as-an-argument": (t) => outcome(t.main.square(t.hold(t.main.later(4)))),
  "promise-of-a-target-as-an-argument": (t) =>
    outcome(t.main.incrementCounter(t.hold(t.main.makeCounter(4)), 3)),
  "rejected-promise-as-an-argument": async (t) => {
    const got = await outcome(t.main.note(t.hold(t.main.fail("type"))));
    return [got, await t.main.takeLog()];
  },
  "promise-inside-a-result": (t) => outcome(t.main.callSquare(t.main, 6)),
  "promise-as-a-result": (t) => outcome(t.main.forwardSquare(t.main, 6)),

  "order-of-concurrent-calls": async (t) => {
    for (let i = 0; i < 50; i += 1) dispose(t.main.note(i));
    return (await t.main.takeLog()).join(" ");
  },
  "order-of-sync-and-async-methods": async (t) => {
    for (let i = 0; i < 10; i += 1) dispose(i % 2 ? t.main.note(i) : t.main.noteLater(i));
    return (await t.main.takeLog()).join(" ");
  },
  "order-on-a-slow-result": async (t) => {
    const tree = t.main.makeTreeLater();
    const early = [tree.note("one"), tree.note("two")];
    const stub = await tree;
    await stub.note("three");
    await Promise.all(early);
    dispose(stub);
    return await t.main.takeLog();
  },
  "order-of-answers": async (t) => {
    const answered = [];
    const quick = Promise.withResolvers();
    const slow = t.main.call(() => quick.promise).then(() => answered.push("first call"));
    await t.main.square(1);
    answered.push("second call");
    quick.resolve();
    await slow;
    return answered;
  },
};
