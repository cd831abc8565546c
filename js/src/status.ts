// What the status line says: the truth of this moment, in words.

import type { Connection } from "./channel.ts";
import type { LinkState } from "./link.ts";

/** `ok` and `waiting` are quiet; `away` means that what is shown does not move. */
export type Tone = "ok" | "waiting" | "away";

export interface Status {
  tone: Tone;
  text: string;
  /** Why, where somebody said so. */
  detail: string | null;
}

/** The link to the kernel decides; only a live one may speak of the kernel's own connection. */
export function describeStatus(link: LinkState, connection: Connection, takenAt: number): Status {
  switch (link.phase) {
    case "connecting":
      return { tone: "waiting", text: "connecting…", detail: null };
    case "snapshot":
      return {
        tone: "away",
        text: `snapshot of ${formatMoment(takenAt)} — run the cell to go live`,
        detail: null,
      };
    case "cut":
      return {
        tone: "away",
        text: `cut off from the kernel since ${formatTime(link.since)} — showing the state of then; re-run the cell`,
        detail: null,
      };
    case "live":
      return describeConnection(connection);
  }
}

function describeConnection({ state, since, detail }: Connection): Status {
  switch (state) {
    case "live":
      return { tone: "ok", text: "live", detail };
    case "reconnecting":
      return { tone: "waiting", text: `reconnecting since ${formatTime(since)}`, detail };
    case "closed":
      return { tone: "away", text: `closed since ${formatTime(since)} — re-run the cell`, detail };
  }
}

/** Local time of day. */
export function formatTime(epochMs: number): string {
  const moment = new Date(epochMs);
  return [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(twoDigits).join(":");
}

/** Local date and time of day. */
export function formatMoment(epochMs: number): string {
  const moment = new Date(epochMs);
  const day = [moment.getFullYear(), moment.getMonth() + 1, moment.getDate()].map(twoDigits).join("-");
  return `${day} ${formatTime(epochMs)}`;
}

function twoDigits(value: number): string {
  return `${value}`.padStart(2, "0");
}
