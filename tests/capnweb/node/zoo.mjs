// One value of every kind. Client and server hold the same zoo, so that either can give what the other expects.

function nest(depth) {
  let value = "core";
  for (let i = 0; i < depth; i += 1) value = [value];
  return value;
}

function fail(error, props) {
  return Object.assign(error, props);
}

/** Name of a kind → a function that makes the value. */
export const zoo = {
  null: () => null,
  undefined: () => undefined,
  true: () => true,
  false: () => false,
  zero: () => 0,
  int: () => 42,
  "int-negative": () => -7,
  "int-max-safe": () => 2 ** 53 - 1,
  "int-min-safe": () => -(2 ** 53) + 1,
  "double-two-to-53": () => 2 ** 53,
  "double-two-to-60": () => 2 ** 60,
  "double-fraction": () => 1.5,
  "double-whole": () => 5.0,
  "double-smallest": () => 5e-324,
  "double-largest": () => Number.MAX_VALUE,
  "double-negative-zero": () => -0,
  nan: () => Number.NaN,
  infinity: () => Number.POSITIVE_INFINITY,
  "infinity-negative": () => Number.NEGATIVE_INFINITY,
  "bigint-small": () => 5n,
  "bigint-large": () => 2n ** 70n,
  "bigint-negative": () => -(2n ** 70n),
  "bigint-5000-digits": () => 10n ** 4999n + 7n,
  "text-empty": () => "",
  text: () => "grüße",
  "text-astral": () => "a😀b",
  "text-lone-surrogate": () => "a\ud800b",
  "text-reversed-surrogates": () => "\udc00\ud800",
  "text-controls": () => '\u0000\u0007\n\r\t"\\/\u2028\u2029\u007f',
  "text-long": () => "0123456789".repeat(200_000),
  "bytes-empty": () => new Uint8Array(0),
  "bytes-every-value": () => Uint8Array.from({ length: 256 }, (_, i) => i),
  "bytes-one-left-over": () => Uint8Array.of(1, 2, 3, 61),
  "bytes-of-a-view": () => new Uint8Array(Uint8Array.of(9, 1, 2, 9).buffer, 1, 2),
  "typed-array-buffer": () => Uint8Array.of(1, 2, 3).buffer,
  "typed-int16": () => Int16Array.of(1, -2),
  "typed-float64": () => Float64Array.of(1.5),
  "typed-big-uint64": () => BigUint64Array.of(2n ** 63n),
  date: () => new Date(1_780_000_000_123),
  "date-before-1970": () => new Date(-1),
  "date-year-0": () => new Date(-62_167_219_200_000),
  "date-year-275760": () => new Date(8.64e15),
  "date-invalid": () => new Date(Number.NaN),
  "list-empty": () => [],
  list: () => [1, "two", null],
  "list-nested": () => [1, [2]],
  "list-of-empty-lists": () => [[], [[]]],
  "list-like-a-tag": () => ["bigint", "5"],
  "list-long": () => Array.from({ length: 10_000 }, (_, i) => i),
  "object-empty": () => ({}),
  object: () => ({ a: 1, b: { c: [true] } }),
  // biome-ignore lint/suspicious/noThenProperty: a value may well have a member called "then"
  "object-odd-keys": () => ({ "": 1, "a b": 2, length: 3, prototype: 4, then: 5, ß: 6 }),
  "object-holding-undefined": () => ({ gone: undefined, here: 1 }),
  "object-filtered-keys": () =>
    JSON.parse('{"__proto__":1,"constructor":2,"toJSON":3,"toString":4,"kept":5}'),
  "error-value": () => new RangeError("not thrown"),
  "error-value-with-props": () => fail(new Error("kept"), { code: "E1", list: [1, [2]] }),
  "nested-60": () => nest(60),
  "nested-100": () => nest(100),
  "nested-250": () => nest(250),
  url: () => new URL("https://example.org/a?b=c#d"),
  mixture: () => ({
    when: new Date(0),
    big: 2n ** 64n,
    raw: Uint8Array.of(255),
    none: [undefined, null, [Number.NaN]],
  }),
};
