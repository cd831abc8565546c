// How long ago something was, short enough to stand in a row.

import { formatMoment, formatTime } from "./status.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** `now`, `3 min`, `5 h`, `12 d`, and the date from a year on; of what lies ahead `now`, since clocks differ. */
export function formatAge(at: number, now: number): string {
  const age = now - at;
  if (age < MINUTE) return "now";
  if (age < HOUR) return `${Math.floor(age / MINUTE)} min`;
  if (age < DAY) return `${Math.floor(age / HOUR)} h`;
  if (age < 365 * DAY) return `${Math.floor(age / DAY)} d`;
  return formatMoment(at).slice(0, 10);
}

/** A moment that will still be right tomorrow: the time of the day that is shown, the date of another. */
export function formatFixed(at: number, shown: number): string {
  const moment = formatMoment(at);
  return moment.slice(0, 10) === formatMoment(shown).slice(0, 10)
    ? formatTime(at).slice(0, 5)
    : moment.slice(0, 10);
}
