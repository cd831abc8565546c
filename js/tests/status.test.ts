import { expect, it } from "vitest";
import { describeStatus, formatMoment, formatTime } from "../src/status.ts";
import { LIVE } from "./helpers/values.ts";

// Local times: the status speaks to the person in front of it.
const at = (hour: number, minute: number, second: number) =>
  new Date(2026, 10, 3, hour, minute, second).getTime();

it("writes times of day and moments with leading zeros", () => {
  expect(formatTime(at(4, 5, 6))).toBe("04:05:06");
  expect(formatMoment(at(14, 5, 6))).toBe("2026-11-03 14:05:06");
});

it.each([
  [{ phase: "connecting" } as const, "waiting", "connecting…"],
  [{ phase: "live" } as const, "ok", "live"],
  [{ phase: "snapshot" } as const, "away", "snapshot of 2026-11-03 09:00:00 — run the cell to go live"],
  [
    { phase: "cut", since: at(10, 11, 12) } as const,
    "away",
    "cut off from the kernel since 10:11:12 — showing the state of then; re-run the cell",
  ],
])("says of %j: %s, %s", (link, tone, text) => {
  expect(describeStatus(link, LIVE, at(9, 0, 0))).toEqual({ tone, text, detail: null });
});

it("passes on the kernel's own trouble while the link lives", () => {
  const connection = { state: "reconnecting", since: at(8, 7, 6), detail: "socket closed" } as const;
  expect(describeStatus({ phase: "live" }, connection, 0)).toEqual({
    tone: "waiting",
    text: "reconnecting since 08:07:06",
    detail: "socket closed",
  });
  expect(describeStatus({ phase: "live" }, { ...connection, state: "closed" }, 0)).toEqual({
    tone: "away",
    text: "closed since 08:07:06 — re-run the cell",
    detail: "socket closed",
  });
});

it("does not call a dead link reconnecting because the kernel last was", () => {
  const connection = { state: "reconnecting", since: 0, detail: "old news" } as const;
  expect(describeStatus({ phase: "snapshot" }, connection, at(9, 0, 0)).text).toMatch(/^snapshot of/);
});
