// `node door.mjs VERSION URL DIALECT CREDENTIAL`: do with an itx door what a client of the original does, and print one
// JSON line: {answers, frames}. A frame is [">" or "<", parsed]; what each should be stands in ../../doors/test_node.py.

import { once } from "node:events";
import { WebSocket } from "ws";
import { dispose, rpc } from "./capnweb.mjs";

const [, , , url, dialect, credential] = process.argv;
const EVENT = { type: "chat.said", payload: { lines: ["a", ["b"]] } };

/** A socket that remembers what was said on it. */
async function open(path, options) {
  const socket = new WebSocket(`${url}${path}`, options);
  const frames = [];
  const send = socket.send.bind(socket);
  socket.send = (data, ...rest) => {
    frames.push([">", JSON.parse(data)]);
    send(data, ...rest);
  };
  socket.on("message", (data) => frames.push(["<", JSON.parse(data.toString())]));
  await once(socket, "open");
  return { socket, frames, main: rpc.newWebSocketRpcSession(socket) };
}

/** What a promise came to: its value, or of its error what crossed the wire. */
async function settle(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    return { error: { name: error.name, message: error.message, ...error } };
  }
}

/** Collects calls; `next()` waits for one that was not taken yet. */
class Inbox {
  #calls = [];
  #waiting = [];

  push = (value) => {
    const waiter = this.#waiting.shift();
    // What came with the call is given back when it returns.
    const copy = structuredClone(value);
    if (waiter) waiter(copy);
    else this.#calls.push(copy);
  };

  next() {
    if (this.#calls.length > 0) return Promise.resolve(this.#calls.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

async function speakJune() {
  const { socket, frames, main } = await open("api/itx", {
    headers: { Authorization: `Bearer ${credential}` },
  });
  const answers = {};
  const project = await main.projects.get("demo");
  answers.append = await project.streams.get("/chat").append(EVENT);
  answers.read = await project.streams.get("/chat").read({ afterOffset: 2, beforeOffset: "end" });
  answers.state = await project.streams.get("/chat").getState();
  const marks = [frames.length];
  const inbox = new Inbox();
  const subscription = await project.streams.get("/chat").subscribe(inbox.push, { afterOffset: 2 });
  answers.first = await inbox.next();
  await project.streams.get("/chat").append({ type: "chat.more" });
  answers.second = await inbox.next();
  answers.unsubscribed = (await subscription.unsubscribe()) === undefined;
  dispose(subscription);
  marks.push(frames.length);
  const states = new Inbox();
  const watch = await project.streams.get("/chat").onStateChange(states.push);
  answers.watched = await states.next();
  await watch.unsubscribe();
  answers.children = await project.streams.get("/").listChildren();
  answers.missing = await settle(main.projects.get("nope"));
  answers.pipelined = await settle(main.projects.get("nope").streams.get("/x").getState());
  answers.badRequest = await settle(project.streams.get("/chat").append({ tpe: 1 }));
  answers.foreign = await settle(project.streams.get("global:/projects").getState());
  answers.conflict = await settle(main.projects.create({ slug: "demo" }));
  socket.terminate();
  return { answers, frames, marks };
}

async function speakV4() {
  const { socket, frames, main } = await open("api");
  const answers = {};
  answers.refused = await settle(main.authenticate({ type: "from-server-cookie" }));
  const marks = [frames.length];
  const session = await main.authenticate({ type: "bearer", token: credential });
  const { principal } = await session.__describe();
  answers.principal = principal.type;
  answers.projects = await session.projects.list();
  marks.push(frames.length);
  const project = session.projects.get("demo");
  const stream = project.streams.get("/chat");
  answers.append = await stream.append(EVENT, { type: "chat.more", payload: {} });
  answers.events = await stream.getEvents({ afterOffset: 2, limit: 500 });
  answers.state = await stream.runtimeState();
  marks.push(frames.length);
  const inbox = new Inbox();
  const subscription = await stream.subscribe({
    processEventBatch: inbox.push,
    events: false,
    subscriptionKey: "k",
  });
  answers.first = await inbox.next();
  answers.key = await subscription.subscriptionKey;
  answers.ping = await subscription.ping();
  answers.unsubscribed = (await subscription.unsubscribe()) === undefined;
  answers.pingAfter = await subscription.ping();
  dispose(subscription);
  const pager = await stream.readEvents({ afterOffset: 2, limit: 1 });
  answers.pages = [await pager.next(), await pager.next()].map((page) => page.map((event) => event.type));
  const waited = stream.waitForEvent({ predicate: (event) => event.payload.n === 2, timeoutMs: 10_000 });
  await stream.append({ type: "n", payload: { n: 1 } }, { type: "n", payload: { n: 2 } });
  answers.waited = await waited.then((event) => event.payload);
  answers.at = await stream.at("../other").append({ type: "t", payload: {} });
  answers.missingEvent = (await stream.getEvent({ offset: 999 })) === undefined;
  const replayed = new Inbox();
  const dropped = await stream.subscribe({
    processEventBatch: replayed.push,
    replayAfterOffset: 2,
    eventTypes: ["n"],
  });
  answers.replayed = (await replayed.next()).events.map((event) => event.payload.n);
  // Letting go of it is as good as unsubscribing.
  dispose(dropped);
  answers.missing = await settle(session.projects.get("nope").streams.get("/x").runtimeState());
  answers.tooMany = await settle(stream.getEvents({ limit: 501 }));
  answers.badPayload = await settle(stream.append({ type: "t", payload: 1 }));
  answers.configured = await settle(stream.subscribe({ processEventBatch: inbox.push, configured: true }));
  socket.terminate();
  return { answers, frames, marks };
}

const result = await (dialect === "v4" ? speakV4() : speakJune());
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
