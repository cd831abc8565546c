// `node client.mjs VERSION URL [NAME…]`: run every check (or those named) against the server at URL and print one
// JSON line each: {name, got, tables, noise}. What is right stands in ../matrix/checks.json and differences.json.

import { once } from "node:events";
import { WebSocket } from "ws";
import { dispose, rpc } from "./capnweb.mjs";
import { callbacks } from "./checks/callbacks.mjs";
import { calls } from "./checks/calls.mjs";
import { capabilities } from "./checks/capabilities.mjs";
import { endings } from "./checks/endings.mjs";
import { errors } from "./checks/errors.mjs";
import { streams } from "./checks/streams.mjs";
import { values } from "./checks/values.mjs";
import { describe } from "./describe.mjs";
import { startSession } from "./sessions.mjs";

const CHECK_MS = 5000;
// A release may lead to a release of the other side, and that to another.
const SETTLING_ROUNDS = 3;

const [, , , url, ...wanted] = process.argv;

/** What a check gets: connections, targets of its own, and the sizes of all tables once it is done. */
class Bench {
  url = url;
  log = [];
  #connections = [];
  #held = [];

  /** Give `promise` back once the check is done: what is only pipelined on stays in the tables otherwise. */
  hold(promise) {
    this.#held.push(promise);
    return promise;
  }

  /** Another connection; `main` is what the server may call, `native` takes the library's own transport. */
  async open({ main, native } = {}) {
    const socket = new WebSocket(native ? `${url}?native` : url);
    const closed = once(socket, "close").then(([code, reason]) => ({ code, reason: reason.toString() }));
    socket.on("error", () => {});
    await once(socket, "open");
    const connection = { socket, closed, ...startSession(socket, main, native) };
    this.#connections.push(connection);
    return connection;
  }

  get connection() {
    return this.#connections[0];
  }

  get main() {
    return this.connection.main;
  }

  /** A local target that counts, and says in the log when it is disposed. */
  counter(start = 0) {
    return new LocalCounter(this.log, start);
  }

  /** Entries in the tables of every connection that is still open: own imports and exports, the server's. */
  async tables() {
    for (const promise of this.#held) dispose(promise);
    const rows = [];
    for (const { main, socket, stats } of this.#connections) {
      if (!stats || socket.readyState !== WebSocket.OPEN) continue;
      for (let i = 0; i < SETTLING_ROUNDS; i += 1) await main.square(0);
      const theirs = await main.tables();
      const ours = stats();
      rows.push([ours.imports, ours.exports, theirs[0], theirs[1]]);
    }
    return rows;
  }

  close() {
    for (const { socket } of this.#connections) socket.terminate();
  }
}

class LocalCounter extends rpc.RpcTarget {
  #log;
  #value;

  constructor(log, start) {
    super();
    this.#log = log;
    this.#value = start;
  }

  increment(by = 1) {
    this.#value += by;
    return this.#value;
  }

  get value() {
    return this.#value;
  }

  [Symbol.dispose]() {
    this.#log.push("local counter disposed");
  }
}

const noise = [];
process.on("unhandledRejection", (error) => noise.push(`client: ${error?.message ?? error}`));

async function run(check) {
  const bench = new Bench();
  noise.length = 0;
  try {
    await bench.open();
    // A copy: what happens when the connection closes is not the check's any more.
    const got = structuredClone(await check(bench));
    const tables = await bench.tables();
    const theirs = await bench.main.takeNoise();
    return { got, tables, noise: [...noise, ...theirs] };
  } catch (error) {
    return { got: { $failed: await describe(error) }, tables: [], noise: [...noise] };
  } finally {
    bench.close();
  }
}

function withLimit(promise) {
  const late = Promise.withResolvers();
  const timer = setTimeout(() => late.resolve({ got: { $late: CHECK_MS }, tables: [], noise: [] }), CHECK_MS);
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}

const checks = { ...calls, ...capabilities, ...callbacks, ...values, ...errors, ...streams, ...endings };
for (const [name, check] of Object.entries(checks)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const result = await withLimit(run(check));
  process.stdout.write(`${JSON.stringify({ name, ...result })}\n`);
}
process.exit(0);
