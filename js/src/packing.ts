// A large tree travels, and is saved, with its nodes deflated: a tenth of the bytes. Small ones are left as they are.
//
// To deflate and inflate takes a moment of its own, so whoever does it keeps in order what comes meanwhile.

import type { Snapshot } from "./channel.ts";

/** Characters of JSON from which on nodes are deflated; as in the kernel. */
export const PACKED_FROM = 256 * 1024;

/** A snapshot whose nodes are in `packed`: JSON, deflated without a header. */
interface Packed extends Omit<Snapshot, "nodes"> {
  nodes: Record<string, never>;
  packed: DataView;
}

/** What the model holds as a snapshot is to be parsed; at once where nothing is packed. Rejects what cannot be inflated. */
export function unpack(raw: unknown): unknown | Promise<unknown> {
  if (typeof raw !== "object" || raw === null || !("packed" in raw)) return raw;
  const { packed, ...rest } = raw as { packed: unknown };
  if (!(packed instanceof DataView)) return raw;
  return through(packed, new DecompressionStream("deflate-raw"))
    .text()
    .then((nodes) => ({ ...rest, nodes: JSON.parse(nodes) }));
}

/** A snapshot as the model should hold it; at once where it is small. */
export function pack(snapshot: Snapshot): Snapshot | Promise<Packed> {
  const nodes = JSON.stringify(snapshot.nodes);
  if (nodes.length < PACKED_FROM) return snapshot;
  return through(nodes, new CompressionStream("deflate-raw"))
    .arrayBuffer()
    .then((buffer) => ({ ...snapshot, nodes: {}, packed: new DataView(buffer) }));
}

function through(part: DataView | string, stream: GenericTransformStream): Response {
  return new Response(new Blob([part as BlobPart]).stream().pipeThrough(stream as ReadableWritablePair));
}

/** Does things in the order in which they are given: at once, unless one before still takes its time. */
export class Queue {
  #last: Promise<void> | null = null;

  put(work: () => unknown): void {
    if (!this.#last) {
      const begun = work();
      if (begun instanceof Promise) this.#wait(begun);
    } else this.#wait(this.#last.then(work));
  }

  /** What fails is reported as the failure of a listener would be, and the next begins. */
  #wait(done: Promise<unknown>): void {
    const last: Promise<void> = done.catch(report).then(() => {
      if (this.#last === last) this.#last = null;
    });
    this.#last = last;
  }
}

function report(error: unknown): void {
  setTimeout(() => {
    throw error;
  });
}
