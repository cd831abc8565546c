// What may be the name of a new stream, in words for the one who types it. The twin of `tree/create.py`, which
// decides; the rule is that of `streams/path.py`, for the whole path.

import { joinPath } from "./path.ts";

const PATH = /^\/[a-z0-9_-]+(?:\/[a-z0-9_-]+)*$/;
const MAX_LENGTH = 1023;

/** The path that `name` means below `parent`, or in words why it means none. */
export function parseChildPath(parent: string, name: string): { path: string } | { fault: string } {
  const typed = name.trim();
  if (!typed) return { fault: "Give the stream a name." };
  const path = decodePercent(joinPath(parent, typed));
  const fault = faultOf(path, decodePercent(typed));
  return fault === null ? { path } : { fault };
}

function faultOf(path: string, name: string): string | null {
  if (/^\/|\/$|\/\//.test(name)) return "One slash between two names, and none at the ends.";
  const wrong = Array.from(name).find((character) => !/[a-z0-9_/-]/.test(character));
  if (wrong !== undefined) return describeCharacter(wrong);
  if (path.length > MAX_LENGTH)
    return `The whole path would have ${path.length} characters; ${MAX_LENGTH} are allowed.`;
  return PATH.test(path) ? null : "The path above is not one in which streams can be created.";
}

function describeCharacter(character: string): string {
  if (/[A-Z]/.test(character)) return "Paths are in lower case.";
  const called = /\s/.test(character) ? "A space" : `“${character}”`;
  return `${called} cannot stand in a path: use a–z, 0–9, - and _.`;
}

/** As Python reads it: text whose escapes say nothing stays as it is. */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
