import { expect, it } from "vitest";
import { toAppend, toAppends, toJsonList, toPython } from "../src/literals.ts";

const EVENT = { offset: 1, type: "demo", createdAt: "" };

it("writes values as Python", () => {
  expect(toPython({ a: [null, true, false, 1.5, 18446744073709551615n, 'say "hi"\n'] })).toBe(
    '{"a": [None, True, False, 1.5, 18446744073709551615, "say \\"hi\\"\\n"]}',
  );
});

it("writes the call that would append such an event", () => {
  expect(toAppend("/a", EVENT)).toBe('itx.streams.get("/a").append("demo")');
  expect(toAppend("/a", { ...EVENT, payload: null, metadata: {} })).toBe(
    'itx.streams.get("/a").append("demo", None)',
  );
  expect(toAppend("/a", { ...EVENT, metadata: { by: "ada" } })).toBe(
    'itx.streams.get("/a").append("demo", metadata={"by": "ada"})',
  );
});

it("writes many in the order of the stream, and says what is left out", () => {
  const events = [{ ...EVENT, offset: 3, bytes: 9_000 }, { ...EVENT, offset: 2, payload: { n: 1 } }, EVENT];
  expect(toAppends("/a", events).split("\n")).toEqual([
    'stream = itx.streams.get("/a")',
    'stream.append("demo")',
    'stream.append("demo", {"n": 1})',
    "# demo at 3 is too large to be here: 9000 bytes",
  ]);
  expect(JSON.parse(toJsonList(events)).map((event: { offset: number }) => event.offset)).toEqual([1, 2, 3]);
});
