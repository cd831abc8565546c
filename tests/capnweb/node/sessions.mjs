// Sessions over WebSockets. The library's own transport hides the session, and with it the size of its tables;
// this one does the same and keeps them in sight. What happens at the end of a connection is looked at with theirs.

import { rpc } from "./capnweb.mjs";

const CLOSE_CODE = 3000;

class SocketTransport {
  #socket;
  #arrived = [];
  #waiter = null;
  #error = null;

  constructor(socket) {
    this.#socket = socket;
    socket.on("message", (data) => {
      if (this.#waiter) {
        this.#waiter.resolve(data.toString());
        this.#waiter = null;
      } else this.#arrived.push(data.toString());
    });
    socket.on("close", (code, reason) => this.#end(new Error(`Peer closed WebSocket: ${code} ${reason}`)));
    socket.on("error", (error) => this.#end(error));
  }

  // 0.8.0 wants a promise.
  async send(text) {
    this.#socket.send(text);
  }

  receive() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    if (this.#error) return Promise.reject(this.#error);
    this.#waiter = Promise.withResolvers();
    return this.#waiter.promise;
  }

  abort(reason) {
    this.#error ??= reason;
    this.#socket.close(CLOSE_CODE, String(reason?.message ?? reason).slice(0, 100));
  }

  #end(error) {
    this.#error ??= error;
    this.#waiter?.reject(this.#error);
    this.#waiter = null;
  }
}

/**
 * Start a session on an open socket.
 *
 * @param socket an open WebSocket of the package ws
 * @param main what the peer may call
 * @param native whether to use the library's own transport; there are no stats then
 * @returns {{main: object, stats: (() => {imports: number, exports: number}) | null}}
 */
export function startSession(socket, main, native) {
  if (native) return { main: rpc.newWebSocketRpcSession(socket, main), stats: null };
  const session = new rpc.RpcSession(new SocketTransport(socket), main);
  return { main: session.getRemoteMain(), stats: () => session.getStats() };
}
