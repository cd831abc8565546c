// `node itx.mjs VERSION`: a small itx of June 2026, written with the original Cap'n Web, for our client to go to.
// One project, streams in memory. It knows none of our own options and methods. Prints {"port": …} once ready, and ends
// when its standard input does.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { rpc } from "./capnweb.mjs";

const TOKEN = "itx_member";
const PROJECT = { id: "prj_1", slug: "demo", customHostname: null, createdAt: "a", updatedAt: "b" };
const streams = new Map();
const sockets = new Set();

function fail(code, message, details) {
  return Object.assign(new Error(message), { code, details });
}

class Log {
  events = [];
  subscribers = new Set();

  constructor(path) {
    this.path = path;
  }

  append(event) {
    const known =
      event.idempotencyKey && this.events.find((each) => each.idempotencyKey === event.idempotencyKey);
    if (known) return known;
    const offset = this.events.length + 1;
    const committed = { ...event, offset, createdAt: new Date().toISOString(), streamPath: this.path };
    this.events.push(committed);
    for (const subscriber of this.subscribers) subscriber.wake();
    return committed;
  }

  get state() {
    return {
      namespace: PROJECT.id,
      path: this.path,
      eventCount: this.events.length,
      childPaths: [],
      metadata: {},
    };
  }
}

class Subscription extends rpc.RpcTarget {
  #log;
  #callback;
  #cursor;
  #withEvents;

  constructor(log, callback, { afterOffset, events = true }) {
    super();
    this.#log = log;
    this.#callback = callback.dup();
    this.#withEvents = events;
    this.#cursor = afterOffset === "start" ? 0 : afterOffset === "end" ? log.events.length : afterOffset;
    this.#callback.onRpcBroken?.(() => log.subscribers.delete(this));
    log.subscribers.add(this);
    this.wake();
  }

  wake() {
    const events = this.#withEvents ? this.#log.events.slice(this.#cursor) : [];
    this.#cursor = this.#log.events.length;
    const batch = { events, state: this.#log.state, streamMaxOffset: this.#cursor };
    Promise.resolve(this.#callback(batch)).catch(() => this.#log.subscribers.delete(this));
  }

  unsubscribe() {
    this.#log.subscribers.delete(this);
    this.#callback[Symbol.dispose]();
  }
}

class Stream extends rpc.RpcTarget {
  #log;

  constructor(path) {
    super();
    if (!streams.has(path)) streams.set(path, new Log(path));
    this.#log = streams.get(path);
  }

  append(event) {
    const count = this.#log.events.length;
    const committed = this.#log.append(event);
    // Committed, but nobody is told: the first time only.
    if (event.type === "demo.cut" && committed.offset > count)
      for (const socket of sockets) socket.terminate();
    return committed;
  }

  appendBatch(events) {
    return events.map((event) => this.#log.append(event));
  }

  read({ afterOffset = "start", beforeOffset = "end" } = {}) {
    const after = afterOffset === "start" ? 0 : afterOffset === "end" ? Number.MAX_SAFE_INTEGER : afterOffset;
    const before = beforeOffset === "end" ? Number.POSITIVE_INFINITY : beforeOffset;
    return this.#log.events.filter(({ offset }) => offset > after && offset < before);
  }

  getState() {
    return this.#log.state;
  }

  listChildren() {
    return [];
  }

  subscribe(callback, options) {
    return new Subscription(this.#log, callback, options);
  }
}

class Streams extends rpc.RpcTarget {
  get(path) {
    return new Stream(path);
  }
}

class Projects extends rpc.RpcTarget {
  async get(idOrSlug) {
    if (idOrSlug !== PROJECT.id && idOrSlug !== PROJECT.slug) {
      throw fail("NOT_FOUND", `Project ${idOrSlug} not found.`, { projectIdOrSlug: idOrSlug });
    }
    return new Itx(PROJECT);
  }

  list() {
    return { projects: [PROJECT], total: 1 };
  }

  create() {
    throw fail("FORBIDDEN", "This itx handle may not create projects.");
  }
}

class Itx extends rpc.RpcTarget {
  #project;

  constructor(project) {
    super();
    this.#project = project;
  }

  describe() {
    const context = this.#project?.id ?? "global";
    return { access: [PROJECT.id], cap: null, caps: [], context, project: this.#project };
  }

  get projects() {
    return new Projects();
  }

  get streams() {
    return new Streams();
  }
}

const http = createServer();
const server = new WebSocketServer({ noServer: true });
http.on("upgrade", (request, socket, head) => {
  const isKnown = request.headers.authorization === `Bearer ${TOKEN}`;
  if (request.url !== "/api/itx" || !isKnown) {
    const status = isKnown ? "404 Not Found" : "401 Unauthorized";
    socket.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    return;
  }
  server.handleUpgrade(request, socket, head, (connection) => {
    sockets.add(connection);
    connection.on("close", () => sockets.delete(connection));
    connection.on("error", () => {});
    rpc.newWebSocketRpcSession(connection, new Itx(null), { onSendError: (error) => error });
  });
});

// Of callbacks whose client is gone.
process.on("unhandledRejection", () => {});

http.listen(0, "127.0.0.1", () => process.stdout.write(`${JSON.stringify({ port: http.address().port })}\n`));

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
