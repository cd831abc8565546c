// How sessions end: closed, cut, aborted, or by giving the main object back; and HTTP batches, which end at once.

import { dispose, rpc, turn } from "../capnweb.mjs";
import { outcome } from "../describe.mjs";

const ANSWER_MS = 1000;

/** Whether a call failed, and whether the words say why. */
function failure(got, ...words) {
  const text = JSON.stringify(got.$thrown ?? {});
  return { failed: "$thrown" in got, says: words.filter((word) => text.includes(word)) };
}

const batch = (t) => rpc.newHttpBatchRpcSession(t.url.replace("ws:", "http:"));

export const endings = {
  "server-closes": async (t) => {
    const { main, closed } = await t.open({ native: true });
    const pending = outcome(main.never());
    dispose(main.closeSocket(4001, "good bye"));
    return [
      failure(await pending, "4001", "good bye"),
      await closed,
      failure(await outcome(main.square(3)), "4001"),
    ];
  },
  "server-cuts": async (t) => {
    const { main, closed } = await t.open({ native: true });
    const pending = outcome(main.never());
    dispose(main.cutSocket());
    return [failure(await pending, "1006"), (await closed).code];
  },
  "client-closes": async (t) => {
    const { main, socket } = await t.open({ native: true });
    const id = await main.connectionId;
    await main.makeCounter();
    socket.close(4002, "leaving");
    return await t.main.waitForEnd(id);
  },
  "client-cuts": async (t) => {
    const { main, socket } = await t.open({ native: true });
    const id = await main.connectionId;
    await main.makeCounter();
    socket.terminate();
    const { code, log } = await t.main.waitForEnd(id);
    return [code, log];
  },
  "client-cuts-while-the-server-holds-a-callback": async (t) => {
    const { main, socket } = await t.open({ native: true });
    const id = await main.connectionId;
    await main.keep(() => 1);
    await main.watchKept();
    await main.watchPeer();
    socket.terminate();
    return (await t.main.waitForEnd(id)).log;
  },
  "server-cuts-while-it-holds-a-target": async (t) => {
    const { main, closed } = await t.open({ native: true });
    await main.keep(t.counter());
    dispose(main.cutSocket());
    await closed;
    await turn();
    return t.log;
  },
  "broken-callbacks-in-order": async (t) => {
    const { main, closed } = await t.open({ native: true });
    const broken = [];
    const counter = await main.makeCounter();
    main.onRpcBroken((error) => broken.push(`main ${error instanceof Error}`));
    counter.onRpcBroken((error) => broken.push(`counter ${error instanceof Error}`));
    main.onRpcBroken(() => broken.push("main again"));
    dispose(main.closeSocket(4001, "good bye"));
    await closed;
    await turn();
    return broken;
  },
  "broken-callback-of-a-rejected-promise": async (t) => {
    const broken = [];
    const promise = t.main.failLater("type");
    promise.onRpcBroken((error) => broken.push(error.name));
    await outcome(promise);
    return broken;
  },
  "client-gives-the-main-object-back": async (t) => {
    const { main, closed } = await t.open({ native: true });
    const id = await main.connectionId;
    await main.makeCounter();
    const pending = outcome(main.never());
    await turn();
    dispose(main);
    const { code, reason } = await closed;
    return [failure(await pending), code, reason, await t.main.waitForEnd(id)];
  },
  "server-gives-the-main-object-back": async (t) => {
    const { main, closed } = await t.open({ native: true });
    const pending = outcome(main.never());
    dispose(main.dropPeer());
    return [failure(await pending), await closed];
  },
  "client-breaks-the-protocol": async (t) => {
    const { main, socket, closed } = await t.open({ native: true });
    const id = await main.connectionId;
    const pending = outcome(main.never());
    await turn();
    socket.send('["nonsense"]');
    const end = await closed;
    return [failure(await pending, "bad RPC message"), end.code, (await t.main.waitForEnd(id)).code];
  },
  "server-breaks-the-protocol": async (t) => {
    const { main, closed } = await t.open({ native: true });
    const id = await main.connectionId;
    const pending = outcome(main.never());
    await main.watchPeer();
    dispose(main.sendRaw('["nonsense"]'));
    const end = await closed;
    const { code, log } = await t.main.waitForEnd(id);
    return [failure(await pending, "bad RPC message"), end.code, code, log];
  },
  "stream-of-a-cut-session": async (t) => {
    const { main, socket } = await t.open({ native: true });
    const id = await main.connectionId;
    const writer = (await main.writable("plain")).getWriter();
    await writer.write("one");
    await main.square(0);
    socket.terminate();
    const { log } = await t.main.waitForEnd(id);
    return [
      log[0],
      log.slice(1).map((line) => line.split(" ")[0]),
      "$thrown" in (await outcome(writer.write("two"))),
    ];
  },

  "batch-call": (t) => outcome(batch(t).square(7)),
  "batch-several-calls": async (t) => {
    const api = batch(t);
    return await Promise.all([api.square(2), api.greet("batch"), api.answer]);
  },
  "batch-pipelining": async (t) => {
    const api = batch(t);
    return await outcome(api.incrementCounter(api.makeCounter(4), api.square(3)));
  },
  "batch-slow-call": (t) => outcome(batch(t).later("x")),
  "batch-rejection": async (t) => {
    const api = batch(t);
    return await Promise.all([outcome(api.fail("type")), outcome(api.square(2))]);
  },
  "batch-value": (t) => outcome(batch(t).give("mixture")),
  "batch-map": async (t) => {
    const api = batch(t);
    return await outcome(api.numbers(3).map((n) => api.square(n)));
  },
  "batch-late-call": async (t) => {
    const api = batch(t);
    await api.square(1);
    return failure(await outcome(api.square(2)), "Batch RPC request ended.");
  },
  "batch-get-refused": async (t) => {
    const answer = fetch(t.url.replace("ws:", "http:"), { signal: AbortSignal.timeout(ANSWER_MS) });
    return await answer.then(
      (response) => response.status,
      () => "no answer",
    );
  },
};
