// JSON as people type it and as Python writes it, which a browser's own parser does not serve: it tells where a fault
// is in the words of each engine, or not at all, and it rounds whole numbers above 2⁵³.

/** What is wrong with a text, and where: line and column from 1, in characters. */
export interface JsonFault {
  line: number;
  column: number;
  message: string;
}

export type JsonResult = { value: unknown; fault: null } | { fault: JsonFault };

/** As deep as the engine takes it. */
const MAX_DEPTH = 200;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
/** A text up to where it ends or is no text any more. A character below the space is written as an escape. */
const OPEN_STRING = /"(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/y;
const WORD = /[\p{L}\p{N}_$]+/uy;
const SPACE = /[ \t\n\r]*/y;
const WORDS = new Map<string, unknown>([
  ["true", true],
  ["false", false],
  ["null", null],
]);

class Fault extends Error {
  constructor(
    readonly at: number,
    message: string,
  ) {
    super(message);
  }
}

/** The value of a JSON text, its large whole numbers as `bigint`; or what is wrong with it. */
export function parseJson(text: string): JsonResult {
  try {
    return { value: new Reader(text).read(), fault: null };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const lines = text.slice(0, error.at).split("\n");
    const column = Array.from(lines.at(-1) ?? "").length + 1;
    return { fault: { line: lines.length, column, message: error.message } };
  }
}

/** The JSON of a value that `parseJson` made, in lines of their own where `indent` is above 0. */
export function writeJson(value: unknown, indent = 0, margin = ""): string {
  if (typeof value === "bigint") return `${value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inner = margin + " ".repeat(indent);
  const colon = indent > 0 ? ": " : ":";
  const items = Array.isArray(value)
    ? value.map((item) => writeJson(item, indent, inner))
    : Object.entries(value).map(
        ([key, item]) => `${JSON.stringify(key)}${colon}${writeJson(item, indent, inner)}`,
      );
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (items.length === 0 || indent === 0) return `${open}${items.join(",")}${close}`;
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${margin}${close}`;
}

class Reader {
  #at = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  read(): unknown {
    const value = this.#value(0);
    this.#skip();
    if (this.#at < this.#text.length) this.#fail("nothing more may follow the value");
    return value;
  }

  #value(depth: number): unknown {
    this.#skip();
    const character = this.#text[this.#at];
    switch (character) {
      case undefined:
        return this.#fail("a value is missing");
      case "{":
        return this.#object(depth);
      case "[":
        return this.#list(depth);
      case '"':
        return this.#string();
      case "'":
        return this.#fail("a text stands in double quotes");
      case "}":
      case "]":
      case ",":
      case ":":
        return this.#fail(`a value is missing before “${character}”`);
    }
    return /[-\d]/.test(character) ? this.#number() : this.#word();
  }

  #object(depth: number): unknown {
    const value: Record<string, unknown> = {};
    this.#items("}", depth, () => {
      if (this.#text[this.#at] !== '"') this.#fail("a key in double quotes is missing");
      const key = this.#string();
      this.#skip();
      if (!this.#takes(":")) this.#fail("a “:” is missing after the key");
      // Not by assignment, which “__proto__” would go astray with.
      const item = { value: this.#value(depth + 1), enumerable: true, configurable: true, writable: true };
      Object.defineProperty(value, key, item);
    });
    return value;
  }

  #list(depth: number): unknown {
    const value: unknown[] = [];
    this.#items("]", depth, () => value.push(this.#value(depth + 1)));
    return value;
  }

  /** What stands between commas, up to `end`. */
  #items(end: string, depth: number, item: () => void): void {
    if (depth >= MAX_DEPTH) this.#fail(`more than ${MAX_DEPTH} values lie in each other`);
    this.#at++;
    this.#skip();
    if (this.#takes(end)) return;
    for (;;) {
      item();
      this.#skip();
      if (this.#takes(end)) return;
      const comma = this.#at;
      if (!this.#takes(",")) this.#fail(`a “,” or “${end}” is missing`);
      this.#skip();
      if (this.#text[this.#at] === end) this.#fail(`no comma may stand before “${end}”`, comma);
    }
  }

  #string(): string {
    const start = this.#at;
    const text = this.#match(OPEN_STRING);
    if (this.#takes('"')) return JSON.parse(`${text}"`);
    const next = this.#text[this.#at];
    if (next === undefined || next === "\n") this.#fail("the text has no closing quote", start);
    if (next === "\\") this.#fail("that is no escape: write \\\\ for a backslash");
    return this.#fail("a tab or another control character is written as an escape");
  }

  #number(): unknown {
    const found = this.#match(NUMBER);
    if (found === null) return this.#fail("a digit is missing after “-”");
    const next = this.#text[this.#at];
    if (next !== undefined && /[\w.+]/.test(next)) this.#fail("that is no number");
    const value = Number(found);
    return /^-?\d+$/.test(found) && !Number.isSafeInteger(value) ? BigInt(found) : value;
  }

  #word(): unknown {
    const start = this.#at;
    const word = this.#match(WORD);
    if (word !== null && WORDS.has(word)) return WORDS.get(word);
    const meant = { True: "true", False: "false", None: "null", undefined: "null", NaN: "null" }[word ?? ""];
    const advice = meant ? `write ${meant}` : "a text stands in double quotes";
    return this.#fail(`“${word ?? this.#text[start]}” is no value: ${advice}`, start);
  }

  #skip(): void {
    this.#match(SPACE);
  }

  #takes(character: string): boolean {
    const isThere = this.#text[this.#at] === character;
    if (isThere) this.#at++;
    return isThere;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? null;
    if (found !== null) this.#at += found.length;
    return found;
  }

  #fail(message: string, at = this.#at): never {
    throw new Fault(at, message);
  }
}
