// Streams for both ends: sources and sinks to hand over, and what reads and writes those that come.

import { dispose, turn } from "./capnweb.mjs";
import { describe } from "./describe.mjs";

const CHUNK_BYTES = 16_384;
const LONG = 20;

/** Name of a kind → the chunks of a readable. */
const chunks = {
  empty: () => [],
  texts: () => ["one", "two", "three"],
  kinds: () => [1, "two", null, Uint8Array.of(3), { four: [4, [5]] }, [6], new Date(0), 2n ** 64n],
  many: () => Array.from({ length: 500 }, (_, i) => i),
  // Beyond the first window of flow control, 256 KiB.
  bytes: () => Array.from({ length: 64 }, (_, i) => new Uint8Array(CHUNK_BYTES).fill(i)),
};

/** A ReadableStream of a kind: of chunks above, "failing" after two, or "endless" until cancelled. */
export function makeReadable(kind, log) {
  let sent = 0;
  return new ReadableStream({
    async pull(controller) {
      await turn();
      if (kind === "endless") controller.enqueue(sent);
      else if (kind === "failing") {
        if (sent === 2) controller.error(new RangeError("source broke"));
        else controller.enqueue(sent);
      } else {
        const all = chunks[kind]();
        if (sent === all.length) controller.close();
        else controller.enqueue(all[sent]);
      }
      sent += 1;
    },
    cancel(reason) {
      log.push(`cancelled ${reason?.message ?? reason}`);
    },
  });
}

/** A ReadableStream of these chunks. */
export function sendAll(values) {
  return new ReadableStream({
    start(controller) {
      for (const value of values) controller.enqueue(value);
      controller.close();
    },
  });
}

/** A WritableStream that logs what happens to it; a "failing" one refuses the second chunk. */
export function makeWritable(kind, log) {
  let received = 0;
  return new WritableStream({
    async write(chunk) {
      received += 1;
      if (kind === "failing" && received === 2) throw new RangeError("sink broke");
      if (kind === "slow") await turn();
      log.push(`wrote ${JSON.stringify(await describe(chunk))}`);
    },
    close() {
      log.push("closed");
    },
    abort(reason) {
      log.push(`aborted ${reason?.message ?? reason}`);
    },
  });
}

/** Every chunk of `stream` as JSON text; of a stream that breaks only the error, which may overtake its chunks. */
export async function readAll(stream) {
  const texts = [];
  try {
    for await (const chunk of stream) texts.push(await describe(chunk));
  } catch (error) {
    return JSON.stringify({ broke: await describe(error) });
  }
  return JSON.stringify(
    texts.length > LONG ? { count: texts.length, last: texts.at(-1) } : { chunks: texts },
  );
}

/** Increment every counter of `stream` and give it back: the values. */
export async function readCounters(stream) {
  const values = [];
  for await (const counter of stream) {
    values.push(await counter.increment(10));
    dispose(counter);
  }
  return values;
}

/** The first `count` chunks as JSON text; the stream is cancelled after them. */
export async function readSome(stream, count) {
  const reader = stream.getReader();
  const texts = [];
  for (let i = 0; i < count; i += 1) texts.push(await describe((await reader.read()).value));
  await reader.cancel(new Error("enough"));
  return JSON.stringify(texts);
}

/** Write three chunks into `stream` and end it: "close", "abort", or "leave" it as it is. */
export async function writeInto(stream, ending) {
  const writer = stream.getWriter();
  try {
    for (const chunk of ["one", 2, { three: [3] }]) await writer.write(chunk);
    if (ending === "close") await writer.close();
    else if (ending === "abort") await writer.abort(new Error("given up"));
    else writer.releaseLock();
  } catch (error) {
    return JSON.stringify(await describe(error));
  }
  return JSON.stringify(ending);
}
