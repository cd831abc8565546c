import type { JSX } from "preact";
import type { NodeError } from "../channel.ts";

interface ErrorTextProps {
  error: NodeError;
  /** Said before the message. */
  lead?: string | undefined;
  tabIndex?: number | undefined;
  /** The text got taller or shorter. */
  onResize?: (() => void) | undefined;
}

/** What went wrong, what to do about it, and the details folded. */
export function ErrorText({ error, lead, tabIndex = 0, onResize }: ErrorTextProps): JSX.Element {
  return (
    <div class="itx-error-text">
      <span class="itx-message">
        {lead}
        {error.message}
      </span>
      {error.hint && <span class="itx-hint"> {error.hint}</span>}
      {error.details && (
        <details class="itx-details" onToggle={onResize}>
          <summary tabIndex={tabIndex} data-lm-suppress-shortcuts="true">
            Details <span class="itx-code">{error.code}</span>
          </summary>
          <pre tabIndex={tabIndex} data-lm-suppress-shortcuts="true">
            {error.details}
          </pre>
        </details>
      )}
    </div>
  );
}
