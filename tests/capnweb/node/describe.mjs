// Values as plain JSON that tells every kind apart. ../matrix/describe.py says the same in Python; README.md lists it.

import { createHash } from "node:crypto";
import { rpc } from "./capnweb.mjs";

const LONG_TEXT = 200;
const LONG_BYTES = 32;
const LONG_LIST = 100;
const DEEP = 20;

/** What `value` is, as JSON. Reads blobs and bodies; does not dispose anything. */
export async function describe(value) {
  switch (typeof value) {
    case "undefined":
      return { $undefined: true };
    case "number":
      return describeNumber(value);
    case "bigint":
      return { $bigint: shorten(String(value)) };
    case "string":
      return shorten(value);
    case "function":
      return value instanceof rpc.RpcStub ? { $stub: true } : { $local: true };
    case "object":
      return describeObject(value);
    default:
      return value;
  }
}

/** What becomes of `promise`: what its value is, or what it was rejected with. Disposes the value. */
export async function outcome(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return { $thrown: await describe(error) };
  }
  const text = await describe(value);
  value?.[Symbol.dispose]?.();
  return text;
}

/** As `outcome`, of a call that may throw at once as well as later. */
export async function attempt(call) {
  try {
    return await outcome(call());
  } catch (error) {
    return { $thrown: await describe(error) };
  }
}

/** An error as its own properties besides name and message; the stack stays out. */
async function describeError(error) {
  // How the value looks as text is each side's own.
  const message = error.message.replace(/^(Cannot serialize value): .*$/s, "$1");
  const facts = { name: error.name, message };
  const names = new Set([...Object.keys(error), "cause", "errors"]);
  for (const name of ["name", "message", "stack"]) names.delete(name);
  for (const name of names) {
    if (Object.hasOwn(error, name)) facts[name] = await describe(error[name]);
  }
  return { $error: facts };
}

function describeNumber(value) {
  if (Object.is(value, -0)) return { $number: "-0" };
  return Number.isFinite(value) ? value : { $number: String(value) };
}

async function describeObject(value) {
  if (value === null) return null;
  if (value instanceof rpc.RpcStub) return { $stub: true };
  if (value instanceof rpc.RpcTarget) return { $local: true };
  if (Array.isArray(value)) return describeList(value);
  if (value instanceof Error) return describeError(value);
  if (value instanceof Date) return { $date: Number.isNaN(value.getTime()) ? null : value.getTime() };
  if (value instanceof URL) return { $url: value.href };
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return describeBytes(value);
  if (value instanceof Blob)
    return { $blob: value.type, holds: describeBytes(new Uint8Array(await value.arrayBuffer())) };
  if (value instanceof Headers) return { $headers: [...value] };
  if (value instanceof Request) {
    const { method, url, headers } = value;
    return { $request: [method, url, [...headers]], body: await value.text() };
  }
  if (value instanceof Response) {
    const { status, statusText, headers } = value;
    return { $response: [status, statusText, [...headers]], body: await value.text() };
  }
  if (value instanceof ReadableStream) return { $readable: true };
  if (value instanceof WritableStream) return { $writable: true };
  const facts = {};
  for (const name of Object.keys(value)) facts[name] = await describe(value[name]);
  return facts;
}

async function describeList(list) {
  let depth = 0;
  let inner = list;
  for (; Array.isArray(inner) && inner.length === 1; inner = inner[0]) depth += 1;
  if (depth > DEEP) return { $nested: depth, around: await describe(inner) };
  if (list.length > LONG_LIST) {
    return { $list: list.length, first: await describe(list[0]), last: await describe(list.at(-1)) };
  }
  const texts = [];
  for (const item of list) texts.push(await describe(item));
  return texts;
}

function describeBytes(value) {
  const view = value instanceof ArrayBuffer ? new Uint8Array(value) : value;
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const facts = { $bytes: bytes.length > LONG_BYTES ? digest(bytes) : bytes.toString("hex") };
  // A Buffer is a Uint8Array.
  if (!(value instanceof Uint8Array)) facts.type = value.constructor.name;
  return facts;
}

function shorten(text) {
  return text.length > LONG_TEXT ? { $text: digest(Buffer.from(text)) } : text;
}

function digest(bytes) {
  return { length: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex").slice(0, 16) };
}
