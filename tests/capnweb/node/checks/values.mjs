// Every kind of value in both directions: what the server sees of ours, what we see of its, what comes back of ours.

import { attempt, describe, outcome } from "../describe.mjs";
import { zoo } from "../zoo.mjs";

const DEPTH = 100;

/** What the server says it got, or how the call failed. */
async function toldOutcome(action) {
  const got = await attempt(action);
  return typeof got === "string" ? JSON.parse(got) : got;
}

/** An exchange of its own connection: a peer that cannot take the value may end the session. */
async function exchange(t, action) {
  const { main } = await t.open();
  return action(main);
}

const kinds = Object.fromEntries(
  Object.entries(zoo).map(([kind, make]) => [
    `value-${kind}`,
    async (t) => ({
      seen: await exchange(t, (main) => toldOutcome(() => main.describe(make()))),
      given: await exchange(t, (main) => attempt(() => main.give(kind))),
      echoed: await exchange(t, (main) => attempt(() => main.echo(make()))),
    }),
  ]),
);

function summarise(got) {
  const { name, message } = got.$thrown.$error;
  return [name, message.split(/[:.]/)[0]];
}

export const values = {
  ...kinds,
  "argument-unsendable": async (t) => {
    const got = await attempt(() => t.main.echo(Symbol("unsendable")));
    return [summarise(got), await t.main.square(3)];
  },
  "argument-unsendable-beside-a-target": async (t) => {
    const got = await attempt(() => t.main.collect(t.counter(), Symbol("unsendable")));
    await t.main.square(0);
    return [summarise(got), t.log];
  },
  "argument-cyclic": async (t) => {
    const list = [];
    list.push(list);
    const got = await attempt(() => t.main.echo(list));
    return [summarise(got), await t.main.square(3)];
  },
  "result-unsendable": async (t) => {
    const got = await outcome(t.main.unsendable());
    return [summarise(got), await t.main.square(3)];
  },
  "result-cyclic": async (t) => {
    const { main } = await t.open();
    const got = await attempt(() => main.endlessList());
    return [summarise(got), await attempt(() => main.square(3))];
  },
  "arguments-many": async (t) => {
    const got = await t.main.collect(...Array.from({ length: DEPTH }, (_, i) => [i]));
    return [got.length, await describe(got[DEPTH - 1])];
  },
};
