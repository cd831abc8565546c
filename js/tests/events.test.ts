// Pages of events and the answers to appends, as they come over the channel.

import { expect, it } from "vitest";
import { parseMessage } from "../src/channel.ts";
import { MalformedMessage } from "../src/malformed.ts";
import { aboutOf, failure } from "./helpers/values.ts";

const EVENT = { offset: 1, type: "demo", createdAt: "2026-11-23T12:00:00.000Z" };
const PAGE = { kind: "events", request: 1, events: [EVENT], before: null, about: null, error: null };

function complaintOf(raw: unknown): string {
  try {
    parseMessage(raw);
  } catch (error) {
    if (error instanceof MalformedMessage) return error.message;
    throw error;
  }
  return "none";
}

it("reads a page as it is, with whatever else an event has", () => {
  const page = { ...PAGE, events: [{ ...EVENT, payload: { a: 1 }, extra: true }] };
  expect(parseMessage(page)).toEqual(page);
  const processor = {
    slug: "p",
    version: null,
    description: null,
    state: "failed",
    detail: "x",
    served: null,
  };
  const connection = { key: "k", name: null, direction: "inbound", since: EVENT.createdAt, served: 3 };
  const about = aboutOf({ processors: [processor as never], connections: [connection as never] });
  expect(parseMessage({ ...PAGE, about })).toEqual({ ...PAGE, about });
  const silent = aboutOf({ paused: null, metadata: null, processors: null, connections: null });
  expect(parseMessage({ ...PAGE, about: silent })).toEqual({ ...PAGE, about: silent });
});

it("reads the numbers that it would round from a text", () => {
  const json = '{"payload":{"id":18446744073709551615},"metadata":{}}';
  expect(parseMessage({ ...PAGE, events: [{ ...EVENT, json }] })).toEqual({
    ...PAGE,
    events: [{ ...EVENT, payload: { id: 18446744073709551615n }, metadata: {} }],
  });
});

it("reads the answer to an append", () => {
  const done = { kind: "appended", request: "k", offset: 3, error: null };
  expect(parseMessage(done)).toEqual(done);
  const refused = { kind: "appended", request: "k", offset: null, error: failure("no") };
  expect(parseMessage(refused)).toEqual(refused);
});

it.each([
  [{ ...PAGE, events: [{ ...EVENT, offset: "1" }] }, 'events.events.offset is "1", not a whole number'],
  [{ ...PAGE, events: [{ ...EVENT, json: "{" }] }, 'events.events.json is "{", not JSON'],
  [{ ...PAGE, events: [{ ...EVENT, json: "1" }] }, "events.events.json is 1, not an object"],
  [
    { ...PAGE, about: aboutOf({ paused: 1 as never }) },
    "events.about.paused is 1, not true or false or null",
  ],
  [
    { ...PAGE, about: aboutOf({ processors: [{ slug: "p" }] as never }) },
    "events.about.processors.state is missing, not running, failed, tripped or absent",
  ],
  [{ kind: "appended", request: 1, offset: null, error: null }, "appended.request is 1, not a text"],
])("refuses %j", (raw, complaint) => {
  expect(complaintOf(raw)).toBe(complaint);
});
