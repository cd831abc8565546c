import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { StreamEvent } from "../channel.ts";
import { formatMoment } from "../status.ts";
import { Button } from "./Button.tsx";
import { Json } from "./Json.tsx";

interface EventLineProps {
  event: StreamEvent;
  onCopy: (form: "JSON" | "Python") => void;
}

/** One event, folded to its offset, type and time. */
export function EventLine({ event, onCopy }: EventLineProps): JSX.Element {
  const [open, setOpen] = useState(false);
  const { offset, type, createdAt, bytes, ...rest } = event;
  return (
    <details class="itx-event" onToggle={(toggle) => setOpen(toggle.currentTarget.open)}>
      <summary data-lm-suppress-shortcuts="true">
        <span class="itx-found">{offset}</span> {type}{" "}
        <span class="itx-found">{formatMoment(Date.parse(createdAt))}</span>
      </summary>
      {!open ? null : bytes ? (
        <p class="itx-remark">
          {bytes} bytes: too large to show. Read it with get_event({offset}).
        </p>
      ) : (
        <>
          {Object.entries(rest)
            .filter(([name, value]) => name !== "metadata" || !isEmptyObject(value))
            .map(([name, value]) => (
              <Json key={name} name={name} value={value} isOpen />
            ))}
          <Button className="itx-text-button" onPress={() => onCopy("JSON")}>
            Copy JSON
          </Button>{" "}
          <Button className="itx-text-button" onPress={() => onCopy("Python")}>
            Copy Python
          </Button>
        </>
      )}
    </details>
  );
}

/** Every event has metadata, and hardly one says something in it. */
function isEmptyObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}
