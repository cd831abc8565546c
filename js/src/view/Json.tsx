import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { writeJson } from "../json.ts";

interface JsonProps {
  value: unknown;
  name?: string;
  isOpen?: boolean;
}

/** A JSON value; what it holds is folded, and drawn when it is opened. */
export function Json({ value, name, isOpen = false }: JsonProps): JSX.Element {
  const [open, setOpen] = useState(isOpen);
  const lead = name === undefined ? "" : `${name}: `;
  const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
  if (entries.length === 0) {
    return (
      <div class="itx-json">
        {lead}
        {writeJson(value)}
      </div>
    );
  }
  return (
    <details class="itx-json" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary data-lm-suppress-shortcuts="true">
        {lead}
        {Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`}
      </summary>
      {open && entries.map(([key, item]) => <Json key={key} name={key} value={item} />)}
    </details>
  );
}
