// Which rows lie in the visible part of the list, and where. All heights in CSS pixels.
//
// Rows have one height but for the few that carry a message; those are kept as a short sorted list of what they
// have more. Offsets are then arithmetic, whatever the number of rows. (A general virtualiser measured 32 KB, and
// the whole module is stored in the notebook once per widget.)

import { lowerBound } from "./rows.ts";

export const ROW_HEIGHT = 24;
/** What a message is thought to add until its row was drawn and measured. */
export const MESSAGE_HEIGHT = 46;
/** Rows drawn beyond each edge, so that a quick scroll does not show the ground. */
const OVERSCAN = 8;

export interface TallRow {
  index: number;
  /** Height above `ROW_HEIGHT`. */
  extra: number;
}

/** The troubled rows that are visible, from top to bottom, with their measured or supposed extra height. */
export function tallRows(
  find: (path: string) => number,
  troubled: ReadonlySet<string>,
  measured: ReadonlyMap<string, number>,
): TallRow[] {
  const tall: TallRow[] = [];
  for (const path of troubled) {
    const index = find(path);
    if (index >= 0) tall.push({ index, extra: measured.get(path) ?? MESSAGE_HEIGHT });
  }
  return tall.sort((a, b) => a.index - b.index);
}

/** Top of the row at `index`; for the number of rows, the height of all. */
export function offsetOf(index: number, tall: readonly TallRow[]): number {
  let offset = index * ROW_HEIGHT;
  for (const row of tall) {
    if (row.index >= index) break;
    offset += row.extra;
  }
  return offset;
}

/** Index of the row that covers `offset`, within the rows there are. */
export function rowAt(offset: number, count: number, tall: readonly TallRow[]): number {
  const index = lowerBound(count, (i) => offsetOf(i + 1, tall) <= offset);
  return Math.max(0, Math.min(index, count - 1));
}

/** First and last row to draw, both inclusive; none where `last < first`. */
export function visibleRange(
  top: number,
  height: number,
  count: number,
  tall: readonly TallRow[],
): { first: number; last: number } {
  return {
    first: Math.max(0, rowAt(top, count, tall) - OVERSCAN),
    last: Math.min(count - 1, rowAt(top + height, count, tall) + OVERSCAN),
  };
}
