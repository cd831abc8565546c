// The JavaScript end of the Cap'n Web benchmark: the reference library as server or as client, over `ws`.
// Its twin in Python is _capnweb_peer.py; both carry the same load, so change them together.
//
//   node capnweb_peer.mjs server         prints {"url"} and serves until stdin ends
//   node capnweb_peer.mjs client URL     reads lines "case count" from stdin, answers each with a line of JSON

import { createInterface } from "node:readline";
import { newWebSocketRpcSession, RpcTarget } from "../capnweb/node/node_modules/capnweb-newest/dist/index.js";
import WebSocket, { WebSocketServer } from "../capnweb/node/node_modules/ws/wrapper.mjs";

globalThis.WebSocket = WebSocket; // the library asks it for the states' names, and not every Node has its own

const WAVE = 1_000; // calls in flight at a time
const WINDOW = 64; // callback calls not yet acknowledged
const EPOCH_MS = 1_732_000_000_000;

const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const cpuMicroseconds = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

class Step extends RpcTarget {
  #depth;

  constructor(depth) {
    super();
    this.#depth = depth;
  }

  next() {
    return new Step(this.#depth + 1);
  }

  get depth() {
    return this.#depth;
  }
}

class Api extends RpcTarget {
  square(i) {
    return i * i;
  }

  first() {
    return new Step(1);
  }

  cpu() {
    return cpuMicroseconds();
  }

  // Calls `callback` with lists of `batchSize` events until `count` events are sent and acknowledged.
  async pushEvents(callback, count, batchSize) {
    const retained = callback.dup();
    const waiting = [];
    for (let sent = 0; sent < count; sent += batchSize) {
      const batch = [];
      for (let seq = sent; seq < sent + batchSize; seq++) {
        batch.push({ seq, kind: "tick", t: EPOCH_MS + seq, v: (seq % 100) + 0.5 });
      }
      if (waiting.length >= WINDOW) await waiting.shift();
      waiting.push(retained(batch).then(() => undefined));
    }
    await Promise.all(waiting);
    retained[Symbol.dispose]();
    return count;
  }
}

const serve = () => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false }, () =>
    tell({ url: `ws://127.0.0.1:${server.address().port}/` }),
  );
  server.on("connection", (socket) => newWebSocketRpcSession(socket, new Api()));
};

const expect = (what, expected) => {
  if (what !== expected) throw new Error(`expected ${expected}, not ${what}`);
};

// Each runs `count` operations.

const runSequential = async (api, count) => {
  for (let i = 0; i < count; i++) expect(await api.square(i), i * i);
};

const runInFlight = async (api, count) => {
  for (let begun = 0; begun < count; begun += WAVE) {
    const calls = [];
    for (let i = 0; i < WAVE; i++) calls.push(api.square(i));
    const squares = await Promise.all(calls);
    expect(squares[WAVE - 1], (WAVE - 1) ** 2);
  }
};

const runChain = async (api, count) => {
  for (let i = 0; i < count; i++) {
    const first = api.first();
    const second = first.next();
    const third = second.next();
    expect(await third.depth, 3);
    third[Symbol.dispose]();
    second[Symbol.dispose]();
    first[Symbol.dispose]();
  }
};

const runEvents = (batchSize) => async (api, count) => {
  let received = 0;
  const callback = (batch) => {
    received += batch.length;
  };
  expect(await api.pushEvents(callback, count, batchSize), count);
  expect(received, count);
};

const CASES = {
  sequential: runSequential,
  in_flight: runInFlight,
  chain: runChain,
  events_1: runEvents(1),
  events_100: runEvents(100),
  events_1000: runEvents(1_000),
};

const runClient = async (url) => {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  const api = newWebSocketRpcSession(socket);
  tell({ ready: await api.square(1) });
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, count] = line.split(" ");
    const serverBefore = await api.cpu();
    const clientBefore = cpuMicroseconds();
    const started = performance.now();
    await CASES[name](api, Number(count));
    const seconds = (performance.now() - started) / 1_000;
    const client = cpuMicroseconds() - clientBefore;
    tell({ seconds, client_cpu_us: client, server_cpu_us: (await api.cpu()) - serverBefore });
  }
  socket.close();
};

const [role, url] = process.argv.slice(2);
if (role === "server") {
  serve();
  process.stdin.on("end", () => process.exit(0)).resume();
} else {
  await runClient(url);
}
