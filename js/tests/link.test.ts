import { expect, it } from "vitest";
import { Link, SILENCE_MS } from "../src/link.ts";
import { FakeClock } from "./helpers/FakeClock.ts";

function openLink() {
  const clock = new FakeClock();
  const phases: string[] = [];
  const link = new Link(clock, () => phases.push(link.state.phase));
  link.open(true);
  return { clock, link, phases };
}

it("connects for six seconds, then admits that it shows a snapshot", () => {
  const { clock, link, phases } = openLink();
  clock.advance(SILENCE_MS - 1);
  expect(link.state).toEqual({ phase: "connecting" });
  clock.advance(1);
  expect(link.state).toEqual({ phase: "snapshot" });
  expect(phases).toEqual(["snapshot"]);
  expect(clock.pending).toBe(0);
});

it("stays live on heartbeats, and reports the change once", () => {
  const { clock, link, phases } = openLink();
  for (let beat = 0; beat < 20; beat++) {
    link.hear();
    clock.advance(2_000);
  }
  expect(link.isLive).toBe(true);
  expect(phases).toEqual(["live"]);
  expect(clock.pending).toBe(1);
});

it("is cut since the last sign of life once that is six seconds ago", () => {
  const { clock, link } = openLink();
  link.hear();
  clock.advance(4_000);
  link.hear();
  const heardAt = clock.now();
  clock.advance(SILENCE_MS - 1);
  expect(link.isLive).toBe(true);
  clock.advance(1);
  expect(link.state).toEqual({ phase: "cut", since: heardAt });
});

it("comes back from anywhere on the next sign of life", () => {
  const { clock, link, phases } = openLink();
  clock.advance(SILENCE_MS);
  link.hear();
  clock.advance(SILENCE_MS);
  link.hear();
  link.lose();
  link.hear();
  expect(phases).toEqual(["snapshot", "live", "cut", "live", "cut", "live"]);
});

it("keeps the time of the first loss when it is lost again", () => {
  const { clock, link, phases } = openLink();
  link.hear();
  const heardAt = clock.now();
  link.lose();
  clock.advance(60_000);
  link.lose();
  expect(link.state).toEqual({ phase: "cut", since: heardAt });
  expect(phases).toEqual(["live", "cut"]);
});

it("was never more than a snapshot when the loss comes before any sign of life", () => {
  const { clock, link } = openLink();
  link.lose();
  expect(link.state).toEqual({ phase: "snapshot" });
  expect(clock.pending).toBe(0);
});

it("leaves no timer behind when closed", () => {
  const { clock, link } = openLink();
  link.hear();
  link.close();
  expect(clock.pending).toBe(0);
});
