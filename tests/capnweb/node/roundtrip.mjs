// Reads lines of JSON from standard input, each a list of expressions as texts, and answers each with the list of what
// the original makes of them: the expression it writes for the value it read, or an object {error}.

import { createInterface } from "node:readline";
import { rpc } from "./capnweb.mjs";

function answer(text) {
  try {
    return rpc.serialize(rpc.deserialize(text));
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(JSON.parse(line).map(answer))}\n`);
}
