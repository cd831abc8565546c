// What the server throws, by name; README.md says what each is for.

class MeterError extends Error {
  name = "MeterError";
  unit = "m";
}

function withProps(error, props) {
  return Object.assign(error, props);
}

/** Name of a kind → a function that makes what is thrown. */
export const throwables = {
  plain: () => new Error("plain"),
  type: () => new TypeError("wrong type"),
  range: () => new RangeError("out of range"),
  syntax: () => new SyntaxError("bad syntax"),
  reference: () => new ReferenceError("no such name"),
  eval: () => new EvalError("bad eval"),
  uri: () => new URIError("bad uri"),
  "own-name": () => new MeterError("own name"),
  "no-message": () => new Error(),
  props: () =>
    withProps(new Error("props"), {
      code: "E42",
      detail: { at: [1, [2]], when: new Date(0), big: 2n ** 64n },
    }),
  "filtered-props": () => withProps(new Error("filtered"), { toJSON: 1, valueOf: 2, code: "kept" }),
  "unsendable-prop": () => withProps(new Error("unsendable"), { code: "kept", bad: Symbol("s") }),
  "stub-prop": () => withProps(new Error("stub"), { code: "kept", callback: () => 1 }),
  cause: () => new Error("outer", { cause: new TypeError("inner") }),
  "cause-value": () => new Error("outer", { cause: "just text" }),
  aggregate: () => new AggregateError([new Error("first"), new TypeError("second")], "several"),
  text: () => "just text",
  null: () => null,
  undefined: () => undefined,
  object: () => ({ code: 7 }),
};
