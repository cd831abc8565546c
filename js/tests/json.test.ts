import { expect, it } from "vitest";
import { parseJson, writeJson } from "../src/json.ts";

const faultOf = (text: string) => parseJson(text).fault;
const say = (text: string) => {
  const fault = faultOf(text);
  return fault && `${fault.line}:${fault.column} ${fault.message}`;
};

it("reads what JSON is, as the platform does", () => {
  const texts = [
    '{"a": [1, -2.5e3, 0, true, false, null], "b": {"": "\\u00e9\\n\\ud83d\\ude00"}}',
    " [ ] ",
    "\t{\r\n}\n",
    '"plain"',
    "-0.0",
    "1E+2",
    '{"a":1,"a":2}',
    '{"__proto__": {"x": 1}}',
    `${"[".repeat(200)}${"]".repeat(200)}`,
  ];
  for (const text of texts) expect(parseJson(text)).toEqual({ value: JSON.parse(text), fault: null });
});

it("says where the fault is and what is missing", () => {
  expect(
    [
      "",
      "{",
      '{"a": 1,\n "b" 2}',
      '{"a": 1,\n "b": 2,\n}',
      "[1 2]",
      "[1,,2]",
      "{'a': 1}",
      '["a\n"]',
      '["open',
      '"\\x"',
      "[True]",
      "[nope]",
      "01",
      "-",
      "1.",
      "{} {}",
      "[€]",
      '"a\tb"',
      "[".repeat(201),
      '"é😀" x',
    ].map(say),
  ).toEqual([
    "1:1 a value is missing",
    "1:2 a key in double quotes is missing",
    "2:6 a “:” is missing after the key",
    "2:8 no comma may stand before “}”",
    "1:4 a “,” or “]” is missing",
    "1:4 a value is missing before “,”",
    "1:2 a key in double quotes is missing",
    "1:2 the text has no closing quote",
    "1:2 the text has no closing quote",
    "1:2 that is no escape: write \\\\ for a backslash",
    "1:2 “True” is no value: write true",
    "1:2 “nope” is no value: a text stands in double quotes",
    "1:2 that is no number",
    "1:1 a digit is missing after “-”",
    "1:2 that is no number",
    "1:4 nothing more may follow the value",
    "1:2 “€” is no value: a text stands in double quotes",
    "1:3 a tab or another control character is written as an escape",
    "1:201 more than 200 values lie in each other",
    "1:6 nothing more may follow the value",
  ]);
});

it("agrees with the platform on every text one change away from JSON", () => {
  const base = '{"a":[1,-2.5e-3,"x\\u0041\\n",true,null],"b":{"c":{}},"d":[]}';
  const characters = [..."{}[]:,\"'\\0-.eE+ \nux/tn", "\u0001", "é"];
  for (let at = 0; at <= base.length; at++) {
    for (const put of ["", ...characters]) {
      for (const skipped of [0, 1]) {
        const text = base.slice(0, at) + put + base.slice(at + skipped);
        let isJson = true;
        try {
          JSON.parse(text);
        } catch {
          isJson = false;
        }
        expect([text, faultOf(text) === null]).toEqual([text, isJson]);
      }
    }
  }
});

it("keeps whole numbers that a browser would round, and writes them as they were", () => {
  const text = '{"id":18446744073709551615,"list":[9007199254740993,-1],"text":"9007199254740993","x":1.5}';
  const parsed = parseJson(text);
  expect(parsed).toMatchObject({ value: { id: 18446744073709551615n, list: [9007199254740993n, -1] } });
  if (parsed.fault === null) expect(writeJson(parsed.value)).toBe(text);
});

it("writes in lines as the platform does", () => {
  const value = { a: [1, [], {}, { "b\n": null }], c: "d" };
  expect(writeJson(value, 2)).toBe(JSON.stringify(value, null, 2));
  expect(writeJson(value)).toBe(JSON.stringify(value));
});
