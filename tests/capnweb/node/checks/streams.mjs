// Streams in both directions, with their errors, and what travels by them: blobs, requests, responses.

import { dispose } from "../capnweb.mjs";
import { describe, outcome } from "../describe.mjs";
import { makeRequest, makeResponse } from "../main.mjs";
import {
  makeReadable,
  makeWritable,
  readAll,
  readCounters,
  readSome,
  sendAll,
  writeInto,
} from "../streams.mjs";

const ROUNDS = 20;
const WRITTEN = ['wrote "one"', "wrote 2", 'wrote {"three":[3]}'];

const sent = (kind) => async (t) => JSON.parse(await t.main.readAll(makeReadable(kind, t.log)));
const got = (kind) => async (t) => JSON.parse(await readAll(await t.main.readable(kind)));
const told = async (promise) => JSON.parse(await promise);

const isAborted = (lines) => lines.at(-1)?.startsWith("aborted");
const has = (count) => (lines) => lines.length >= count;

/** Log of this side once it is as wanted: what happens to a stream follows the call it came with. */
async function logged(t, isDone) {
  for (let i = 0; i < ROUNDS && !isDone(t.log); i += 1) await t.main.square(0);
  return t.log;
}

/** The server's log once it is as wanted. */
async function takeLog(t, isDone) {
  const lines = [];
  for (let i = 0; i < ROUNDS && !isDone(lines); i += 1) lines.push(...(await t.main.takeLog()));
  return lines;
}

/** What an aborted stream was told last, and whether it was told the first chunks before: it may miss later ones. */
function splitAborted(lines) {
  const before = lines.slice(0, -1);
  return [lines.at(-1), before.every((line, i) => line === WRITTEN[i])];
}

export const streams = {
  "readable-sent": sent("texts"),
  "readable-sent-empty": sent("empty"),
  "readable-sent-every-kind": sent("kinds"),
  "readable-sent-many-chunks": sent("many"),
  "readable-sent-beyond-the-window": sent("bytes"),
  "readable-sent-failing": sent("failing"),
  "readable-sent-inside-an-object": async (t) =>
    told(t.main.readAllInside({ label: "x", stream: makeReadable("texts", t.log) })),
  "readable-sent-and-cancelled": async (t) => [
    await told(t.main.readSome(makeReadable("endless", t.log), 3)),
    await logged(t, has(1)),
  ],
  "readable-got": got("texts"),
  "readable-got-empty": got("empty"),
  "readable-got-every-kind": got("kinds"),
  "readable-got-many-chunks": got("many"),
  "readable-got-beyond-the-window": got("bytes"),
  "readable-got-failing": got("failing"),
  "readable-got-inside-an-object": async (t) => {
    const holder = await t.main.readableInside("texts");
    const text = await readAll(holder.stream);
    dispose(holder);
    return [holder.label, JSON.parse(text)];
  },
  "readable-got-and-cancelled": async (t) => {
    const text = await readSome(await t.main.readable("endless"), 3);
    return [JSON.parse(text), await takeLog(t, has(1))];
  },
  "readable-got-and-disposed": async (t) => {
    const holder = await t.main.readableInside("endless");
    dispose(holder);
    return (await takeLog(t, has(1))).length;
  },
  "readable-there-and-back": async (t) =>
    JSON.parse(await readAll(await t.main.echo(makeReadable("texts", t.log)))),

  "readable-passed-on": async (t) => {
    const other = await t.open();
    return await told(other.main.readAll(await t.main.readable("texts")));
  },
  "readable-promise-as-an-argument": (t) => told(t.main.readAll(t.hold(t.main.readable("texts")))),
  "readable-sent-of-targets": async (t) => {
    const values = await t.main.readCounters(sendAll([t.counter(1), t.counter(2)]));
    return [values, await logged(t, has(2))];
  },
  "readable-got-of-targets": async (t) => [
    await readCounters(await t.main.counters()),
    await takeLog(t, has(2)),
  ],

  "writable-sent": async (t) => [await told(t.main.writeInto(makeWritable("plain", t.log), "close")), t.log],
  "writable-sent-slow": async (t) => [
    await told(t.main.writeInto(makeWritable("slow", t.log), "close")),
    t.log,
  ],
  "writable-sent-and-aborted": async (t) => {
    const text = await told(t.main.writeInto(makeWritable("plain", t.log), "abort"));
    return [text, ...splitAborted(await logged(t, isAborted))];
  },
  "writable-sent-and-left": async (t) => {
    const text = await told(t.main.writeInto(makeWritable("plain", t.log), "leave"));
    return [text, ...splitAborted(await logged(t, isAborted)).map((part) => part.split?.(" ")[0] ?? part)];
  },
  "writable-sent-failing": async (t) => {
    const { $error } = await told(t.main.writeInto(makeWritable("failing", t.log), "close"));
    return [$error.name, $error.message, t.log];
  },
  "writable-got": async (t) => {
    const stream = await t.main.writable("plain");
    return [JSON.parse(await writeInto(stream, "close")), await takeLog(t, has(4))];
  },
  "writable-got-and-aborted": async (t) => {
    const stream = await t.main.writable("plain");
    const text = JSON.parse(await writeInto(stream, "abort"));
    return [text, ...splitAborted(await takeLog(t, isAborted))];
  },
  "writable-got-failing": async (t) => {
    const stream = await t.main.writable("failing");
    const { $error } = JSON.parse(await writeInto(stream, "close"));
    return [$error.name, $error.message, await takeLog(t, has(1))];
  },
  "writable-passed-on": async (t) => {
    const other = await t.open();
    const text = await told(other.main.writeInto(await t.main.writable("plain"), "close"));
    return [text, await takeLog(t, has(4))];
  },
  "readable-and-writable-in-one-call": async (t) => {
    await t.main.copy(makeReadable("texts", t.log), makeWritable("plain", t.log));
    return t.log;
  },

  "blob-sent": async (t) => told(t.main.describe(new Blob(["grüße"], { type: "text/odd" }))),
  "blob-sent-empty": async (t) => told(t.main.describe(new Blob([]))),
  "blob-sent-every-byte": async (t) =>
    told(t.main.describe(new Blob([Uint8Array.from({ length: 256 }, (_, i) => i)]))),
  "blob-sent-large": async (t) => told(t.main.describe(new Blob([new Uint8Array(300_000).fill(7)]))),
  "blob-sent-two-in-one-call": async (t) => told(t.main.describe([new Blob(["one"]), new Blob(["two"])])),
  "blob-got": (t) => outcome(t.main.blob("grüße", "text/odd")),
  "blob-got-empty": (t) => outcome(t.main.blob("", "")),
  "blob-got-two-in-one-result": (t) => outcome(t.main.blobs()),
  "blob-there-and-back": (t) => outcome(t.main.echo(new Blob(["there and back"], { type: "text/odd" }))),

  "headers-sent": async (t) =>
    told(
      t.main.describe(
        new Headers([
          ["x-one", "1"],
          ["x-two", "2"],
        ]),
      ),
    ),
  "headers-got": (t) => outcome(t.main.headers()),
  "request-sent": async (t) => told(t.main.describe(makeRequest("plain"))),
  "request-sent-with-a-body": async (t) => told(t.main.describe(makeRequest("body"))),
  "request-got": (t) => outcome(t.main.request("plain")),
  "request-got-with-a-body": async (t) => describe(await t.main.request("body")),
  "response-sent": async (t) => told(t.main.describe(makeResponse("plain"))),
  "response-sent-with-a-body": async (t) => told(t.main.describe(makeResponse("body"))),
  "response-got": (t) => outcome(t.main.response("plain")),
  "response-got-with-a-body": async (t) => describe(await t.main.response("body")),
};
