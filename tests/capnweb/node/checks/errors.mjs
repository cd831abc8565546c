// What the server throws, and how it arrives.

import { outcome } from "../describe.mjs";
import { throwables } from "../errors.mjs";

const kinds = Object.fromEntries(
  Object.keys(throwables).map((kind) => [`throws-${kind}`, (t) => outcome(t.main.fail(kind))]),
);

export const errors = {
  ...kinds,
  "throws-later": (t) => outcome(t.main.failLater("range")),
  "throws-into-a-callback-and-back": (t) => outcome(t.main.call(() => t.main.fail("props"))),
  "throws-and-the-session-goes-on": async (t) => {
    await outcome(t.main.fail("plain"));
    return await t.main.square(3);
  },
};
