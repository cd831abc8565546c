// What the server offers: the main object of a connection and what hangs on it. README.md describes every member;
// ../matrix/main.py offers the same in Python.

import { dispose, rpc, turn } from "./capnweb.mjs";
import { describe, outcome } from "./describe.mjs";
import { throwables } from "./errors.mjs";
import {
  makeReadable,
  makeWritable,
  readAll,
  readCounters,
  readSome,
  sendAll,
  writeInto,
} from "./streams.mjs";
import { zoo } from "./zoo.mjs";

/** What is known of one connection: its log, its socket, the peer's main object, how it ended. */
export class Connection {
  log = [];
  socket = null;
  peer = null;
  stats = null;
  ended = Promise.withResolvers();
}

class Counter extends rpc.RpcTarget {
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
    this.#log.push("counter disposed");
  }
}

class Tree extends rpc.RpcTarget {
  #log;
  #path;

  constructor(log, path) {
    super();
    this.#log = log;
    this.#path = path;
  }

  get path() {
    return this.#path;
  }

  get self() {
    return new Tree(this.#log, this.#path);
  }

  child(name) {
    return new Tree(this.#log, `${this.#path}/${name}`);
  }

  note(text) {
    this.#log.push(text);
  }
}

export class Main extends rpc.RpcTarget {
  static motto = "never seen";
  #connection;
  #connections;
  #kept = null;
  #noise;
  #ticks = 0;
  inside = "an instance property";

  constructor(connection, connections, noise) {
    super();
    this.#connection = connection;
    this.#connections = connections;
    this.#noise = noise;
  }

  get answer() {
    return 42;
  }

  get ticks() {
    this.#ticks += 1;
    return this.#ticks;
  }

  get sour() {
    throw new Error("sour");
  }

  get config() {
    return { limits: { depth: 3 }, names: ["a", "b"], started: new Date(0) };
  }

  square(n) {
    return n * n;
  }

  collect(...items) {
    return items;
  }

  greet(name = "world", mark = "!") {
    return `hello ${name}${mark}`;
  }

  async later(value) {
    await turn();
    return value;
  }

  nothing() {}

  never() {
    return new Promise(() => {});
  }

  _private() {
    return "private";
  }

  unsendable() {
    return Symbol("unsendable");
  }

  endlessList() {
    const list = [];
    list.push(list);
    return list;
  }

  fail(kind) {
    throw throwables[kind]();
  }

  async failLater(kind) {
    await turn();
    throw throwables[kind]();
  }

  numbers(count) {
    return Array.from({ length: count }, (_, i) => i);
  }

  echo(value) {
    return value;
  }

  async describe(value) {
    return JSON.stringify(await describe(value));
  }

  give(kind) {
    return zoo[kind]();
  }

  makeCounter(start = 0) {
    return new Counter(this.#connection.log, start);
  }

  async makeCounterLater(start = 0) {
    await turn();
    return this.makeCounter(start);
  }

  makeTriplet() {
    const counter = this.makeCounter();
    return [counter, counter, counter];
  }

  makeSharedTriplet() {
    const stub = new rpc.RpcStub(this.makeCounter());
    return [stub, stub.dup(), stub.dup()];
  }

  makeBox(start = 0) {
    return { counter: this.makeCounter(start), label: "box" };
  }

  makeTree() {
    return new Tree(this.#connection.log, "root");
  }

  async makeTreeLater() {
    await turn();
    return this.makeTree();
  }

  makeAdder(n) {
    return (m) => n + m;
  }

  incrementCounter(counter, by = 1) {
    return counter.increment(by);
  }

  incrementBoth(one, other) {
    return Promise.all([one.increment(1), other.increment(10)]);
  }

  callSquare(self, n) {
    return { result: self.square(n) };
  }

  forwardSquare(self, n) {
    return self.square(n);
  }

  wrap(stub) {
    return { stub: stub.dup() };
  }

  wrapWithoutDup(stub) {
    return { stub };
  }

  giveBack(stub) {
    return stub.dup();
  }

  async call(callback, ...args) {
    return await callback(...args);
  }

  async callLater(callback, ...args) {
    await turn();
    return await callback(...args);
  }

  async describeCall(callback, ...args) {
    return JSON.stringify(await outcome(callback(...args)));
  }

  async callMember(holder, value) {
    return await holder.on.event(value);
  }

  async useReturned(callback) {
    const counter = callback();
    const value = await counter.increment(5);
    dispose(counter);
    return value;
  }

  keep(stub) {
    dispose(this.#kept);
    this.#kept = stub.dup();
  }

  watchKept() {
    this.#kept.onRpcBroken((error) => this.#connection.log.push(`broken ${error instanceof Error}`));
  }

  async callKept(count) {
    const calls = Array.from({ length: count }, (_, i) => this.#kept(i));
    await Promise.all(calls);
    return count;
  }

  async incrementKept(by) {
    return await this.#kept.increment(by);
  }

  dropKept() {
    dispose(this.#kept);
    this.#kept = null;
  }

  note(text) {
    this.#connection.log.push(text);
  }

  async noteLater(text) {
    this.#connection.log.push(text);
    await turn();
  }

  readable(kind) {
    return makeReadable(kind, this.#connection.log);
  }

  readableInside(kind) {
    return { label: "inside", stream: makeReadable(kind, this.#connection.log) };
  }

  readAll(stream) {
    return readAll(stream);
  }

  readAllInside(holder) {
    return readAll(holder.stream);
  }

  readSome(stream, count) {
    return readSome(stream, count);
  }

  readCounters(stream) {
    return readCounters(stream);
  }

  counters() {
    return sendAll([this.makeCounter(1), this.makeCounter(2)]);
  }

  writable(kind) {
    return makeWritable(kind, this.#connection.log);
  }

  writeInto(stream, ending) {
    return writeInto(stream, ending);
  }

  copy(source, sink) {
    return source.pipeTo(sink);
  }

  blob(text, type) {
    return new Blob([text], { type });
  }

  blobs() {
    return [new Blob(["one"]), new Blob(["two"], { type: "text/two" })];
  }

  headers() {
    return new Headers([
      ["x-one", "1"],
      ["x-two", "2"],
    ]);
  }

  request(kind) {
    return makeRequest(kind);
  }

  response(kind) {
    return makeResponse(kind);
  }

  takeLog() {
    return this.#connection.log.splice(0);
  }

  /** Rejections that nobody handled, in all connections, since this was asked last. */
  takeNoise() {
    return this.#noise.splice(0);
  }

  get connectionId() {
    return this.#connections.indexOf(this.#connection);
  }

  /** The sizes of this side's tables, the entry of this call left out: it waits, so it is in them. */
  async tables() {
    await turn();
    const { imports, exports } = this.#connection.stats();
    return [imports, exports - 1];
  }

  async waitForEnd(id) {
    const connection = this.#connections[id];
    const end = await connection.ended.promise;
    await turn();
    return { ...end, log: connection.log };
  }

  callPeer(n) {
    return this.#connection.peer.double(n);
  }

  watchPeer() {
    this.#connection.peer.onRpcBroken((error) =>
      this.#connection.log.push(`broken ${error instanceof Error}`),
    );
  }

  closeSocket(code, reason) {
    this.#connection.socket.close(code, reason);
  }

  cutSocket() {
    this.#connection.socket.terminate();
  }

  sendRaw(text) {
    this.#connection.socket.send(text);
  }

  dropPeer() {
    dispose(this.#connection.peer);
  }
}

export function makeRequest(kind) {
  const url = "https://example.org/path?q=1";
  if (kind === "plain") return new Request(url, { headers: { "x-one": "1" } });
  return new Request(url, { method: "POST", headers: { "content-type": "text/odd" }, body: "sent body" });
}

export function makeResponse(kind) {
  if (kind === "plain") return new Response(null, { status: 204, headers: { "x-one": "1" } });
  return new Response("got body", {
    status: 201,
    statusText: "Made",
    headers: { "content-type": "text/odd" },
  });
}
