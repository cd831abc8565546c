// The version of the original under test: the first argument of server.mjs and client.mjs, "0.8.0" or "newest".
// package.json installs each under its own name, so that both may run in one checkout.

const version = process.argv[2];

export const rpc = await import(`capnweb-${version}`);

/** Give back a stub, a promise, or everything in a result; plain values need nothing. */
export function dispose(value) {
  if (value !== null && (typeof value === "object" || typeof value === "function")) value[Symbol.dispose]?.();
}

/** Wait until the I/O that is ready has been handled. */
export function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}
