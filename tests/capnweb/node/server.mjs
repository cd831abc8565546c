// `node server.mjs VERSION`: serve WebSocket sessions and HTTP batches on a free port of the loopback, and print
// {"port": …} once ready. Ends when its standard input does, so that it cannot outlive the test that started it.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { rpc } from "./capnweb.mjs";
import { Connection, Main } from "./main.mjs";
import { startSession } from "./sessions.mjs";

const connections = [];
const noise = [];

const http = createServer((request, response) => {
  rpc.nodeHttpBatchRpcResponse(request, response, new Main(new Connection(), connections, noise));
});

new WebSocketServer({ server: http }).on("connection", (socket, request) => {
  const connection = new Connection();
  connections.push(connection);
  connection.socket = socket;
  socket.on("close", (code, reason) => connection.ended.resolve({ code, reason: reason.toString() }));
  // A socket that is cut reports it as an error besides; the close event says what matters.
  socket.on("error", () => {});
  const session = startSession(
    socket,
    new Main(connection, connections, noise),
    request.url.includes("native"),
  );
  connection.peer = session.main;
  connection.stats = session.stats;
});

// One that nobody handles would end the process and fail every check after it; the client asks for them.
process.on("unhandledRejection", (error) => noise.push(`server: ${error?.message ?? error}`));

http.listen(0, "127.0.0.1", () => process.stdout.write(`${JSON.stringify({ port: http.address().port })}\n`));

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
