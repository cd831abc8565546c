// Objects by reference: handed over, handed on, handed back, and given up, with the number of times disposers ran.

import { dispose, rpc, turn } from "../capnweb.mjs";
import { attempt, describe, outcome } from "../describe.mjs";

class LocalMain extends rpc.RpcTarget {
  double(n) {
    return 2 * n;
  }
}

/** Let what has been given up arrive. */
async function settle(t) {
  await t.main.square(0);
  await t.main.square(0);
}

export const capabilities = {
  "target-as-an-argument": async (t) => [await t.main.incrementCounter(t.counter(10), 3), t.log],
  "target-twice-in-one-call": async (t) => {
    const counter = t.counter();
    return [await t.main.incrementBoth(counter, counter), t.log];
  },
  "target-in-two-calls": async (t) => {
    const counter = t.counter();
    return [await t.main.incrementCounter(counter), await t.main.incrementCounter(counter), t.log];
  },
  "target-as-a-stub-argument": async (t) => {
    const stub = new rpc.RpcStub(t.counter());
    const got = [await t.main.incrementCounter(stub), await t.main.incrementCounter(stub), [...t.log]];
    dispose(stub);
    return [...got, t.log];
  },
  "target-kept": async (t) => {
    await t.main.keep(t.counter(1));
    const got = [await t.main.incrementKept(4), [...t.log]];
    await t.main.dropKept();
    await settle(t);
    return [...got, t.log];
  },
  "target-with-dup": async (t) => {
    class Shared extends rpc.RpcTarget {
      increment(by) {
        return by;
      }
      dup() {
        t.log.push("duplicated");
        return new Shared();
      }
      [Symbol.dispose]() {
        t.log.push("disposed");
      }
    }
    return [await t.main.incrementCounter(new Shared(), 2), t.log];
  },
  "target-in-a-failing-call": async (t) => [await outcome(t.main.nope(t.counter())), t.log],
  "target-on-a-rejected-promise": async (t) => {
    const got = await outcome(t.hold(t.main.failLater("type")).use(t.counter()));
    await settle(t);
    return [got.$thrown.$error.name, t.log];
  },
  "target-comes-back-in-an-object": async (t) => {
    const counter = t.counter();
    const box = await t.main.wrap(counter);
    const got = [await box.stub.increment(2), counter.value];
    dispose(box);
    await settle(t);
    return [...got, t.log];
  },
  "target-comes-back-without-dup": async (t) => {
    const promise = t.main.wrapWithoutDup(t.counter(1));
    const got = await outcome(promise.stub.increment(2));
    dispose(promise);
    await settle(t);
    return [got, t.log];
  },
  "target-comes-back-as-the-result": async (t) => {
    const promise = t.main.giveBack(t.counter(1));
    const got = await outcome(promise.then((stub) => stub.increment(2)));
    dispose(promise);
    await settle(t);
    return [got, t.log];
  },

  "result-disposed": async (t) => {
    const counter = await t.main.makeCounter(1);
    const got = [await describe(counter), await counter.increment(), await t.main.takeLog()];
    dispose(counter);
    return [...got, await t.main.takeLog()];
  },
  "result-never-awaited-and-disposed": async (t) => {
    dispose(t.main.makeCounter());
    return await t.main.takeLog();
  },
  "result-with-a-target-inside": async (t) => {
    const box = await t.main.makeBox(5);
    const got = [box.label, await box.counter.increment()];
    dispose(box);
    return [...got, await t.main.takeLog()];
  },
  "result-pipelined-into-and-disposed": async (t) => {
    const box = t.main.makeBox(5);
    const got = [
      await box.counter.increment(),
      await box.counter.value,
      await t.main.incrementCounter(box.counter, 2),
    ];
    dispose(box);
    return [...got, await t.main.takeLog()];
  },
  "result-awaited-and-passed-on-at-once": async (t) => {
    const promise = t.main.makeCounter(1);
    const waiting = promise.then((counter) => counter);
    const got = [await t.main.incrementCounter(promise, 2)];
    const counter = await waiting;
    got.push(await counter.value);
    dispose(counter);
    return [...got, await t.main.takeLog()];
  },
  "result-with-one-target-three-times": async (t) => {
    const counters = await t.main.makeTriplet();
    const got = [await counters[0].increment(), await counters[2].increment()];
    dispose(counters);
    return [...got, await t.main.takeLog()];
  },
  "result-with-one-stub-three-times": async (t) => {
    const counters = await t.main.makeSharedTriplet();
    const got = [await counters[0].increment(), await counters[2].increment()];
    dispose(counters);
    return [...got, await t.main.takeLog()];
  },
  "stub-duplicated": async (t) => {
    const counter = await t.main.makeCounter();
    const other = counter.dup();
    dispose(counter);
    const got = [await other.increment(), await t.main.takeLog()];
    dispose(other);
    return [...got, await t.main.takeLog()];
  },
  "promise-duplicated": async (t) => {
    const promise = t.main.makeCounterLater(5);
    const other = promise.dup();
    dispose(promise);
    const got = [await other.increment(), await t.main.takeLog()];
    dispose(other);
    return [...got, await t.main.takeLog()];
  },
  "stub-disposed-twice": async (t) => {
    const counter = await t.main.makeCounter();
    const other = counter.dup();
    dispose(counter);
    dispose(counter);
    const got = await other.increment();
    dispose(other);
    return [got, await t.main.takeLog()];
  },
  "stub-used-after-its-disposal": async (t) => {
    const counter = await t.main.makeCounter();
    dispose(counter);
    const got = await outcome(counter.increment());
    return got.$thrown.$error.message;
  },
  "stub-disposed-as-an-argument": async (t) => {
    const counter = await t.main.makeCounter();
    dispose(counter);
    const got = await attempt(() => t.main.incrementCounter(counter));
    return [got.$thrown.$error.message, await t.main.square(3)];
  },
  "promise-disposed-while-awaited": async (t) => {
    const promise = t.main.never();
    const waiting = outcome(promise);
    await turn();
    dispose(promise);
    return (await waiting).$thrown.$error.message;
  },
  "promise-disposed-before-its-target-is-made": async (t) => {
    dispose(t.main.makeCounterLater());
    await t.main.later();
    await settle(t);
    return await t.main.takeLog();
  },
  "promises-never-awaited-and-disposed": async (t) => {
    const promises = Array.from({ length: 50 }, (_, i) => t.main.square(i));
    for (const promise of promises) dispose(promise);
    return await t.main.square(2);
  },
  "promises-never-awaited-and-dropped": async (t) => {
    for (let i = 0; i < 50; i += 1) t.main.square(i);
    return await t.main.square(2);
  },

  "main-as-an-argument": (t) => outcome(t.main.callSquare(t.main, 6)),
  "stub-comes-back-as-an-argument": async (t) => {
    const counter = await t.main.makeCounter(1);
    // It comes back as the server's own: nothing goes through this side.
    const got = [
      await t.main.incrementCounter(counter, 2),
      await counter.value,
      t.connection.stats().exports,
    ];
    dispose(counter);
    return [...got, await t.main.takeLog()];
  },
  "stub-comes-back-in-an-object": async (t) => {
    const counter = await t.main.makeCounter(1);
    const box = t.main.wrap(counter);
    const got = [await outcome(box.stub.increment()), await counter.value];
    dispose(box);
    dispose(counter);
    return [...got, await t.main.takeLog()];
  },
  "stub-comes-back-as-the-result": async (t) => {
    const counter = await t.main.makeCounter(1);
    const again = t.main.giveBack(counter);
    const got = [await outcome(again.increment()), await counter.value];
    dispose(again);
    dispose(counter);
    return [...got, await t.main.takeLog()];
  },
  "promise-comes-back": async (t) => {
    const promise = t.main.makeCounterLater(1);
    const box = await t.main.wrap(promise);
    const got = [await box.stub.increment(), await promise.value];
    dispose(box);
    dispose(promise);
    return [...got, await t.main.takeLog()];
  },
  "server-calls-the-main-of-the-client": async (t) => {
    const other = await t.open({ main: new LocalMain() });
    return await outcome(other.main.callPeer(4));
  },
  "server-calls-a-client-without-main": (t) => outcome(t.main.callPeer(4)),

  "three-parties-stub": async (t) => {
    const other = await t.open();
    const counter = await t.main.makeCounter(1);
    const got = [await other.main.incrementCounter(counter, 2), await counter.value];
    dispose(counter);
    await settle(t);
    return [...got, await t.main.takeLog()];
  },
  "three-parties-promise": async (t) => {
    const other = await t.open();
    const promise = t.main.makeCounterLater(1);
    const got = [await other.main.incrementCounter(promise, 2), await promise.value];
    dispose(promise);
    await settle(t);
    return [...got, await t.main.takeLog()];
  },
  "three-parties-promise-of-a-value": async (t) => {
    const other = await t.open();
    return await outcome(other.main.square(t.hold(t.main.later(5))));
  },
  "three-parties-member": async (t) => {
    const other = await t.open();
    return await outcome(other.main.call(t.main.square, 5));
  },
  "three-parties-main": async (t) => {
    const other = await t.open();
    return await outcome(other.main.callSquare(t.main, 5));
  },
  "three-parties-kept": async (t) => {
    const other = await t.open();
    const counter = await t.main.makeCounter(1);
    await other.main.keep(counter);
    dispose(counter);
    const got = [await other.main.incrementKept(1), await t.main.takeLog()];
    await other.main.dropKept();
    await other.main.square(0);
    return [...got, await t.main.takeLog()];
  },
  "three-parties-round-trip": async (t) => {
    const other = await t.open();
    const counter = await t.main.makeCounter(1);
    const box = await other.main.wrap(counter);
    const got = [await attempt(() => t.main.incrementCounter(box.stub, 2)), await counter.value];
    dispose(box);
    dispose(counter);
    await settle(t);
    return [...got, await t.main.takeLog()];
  },
};
