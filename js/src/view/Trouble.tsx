import type { JSX } from "preact";
import type { NodeError } from "../channel.ts";
import { Button } from "./Button.tsx";
import { ErrorText } from "./ErrorText.tsx";
import { WarningIcon } from "./icons.tsx";

interface TroubleProps {
  error: NodeError;
  lead?: string | undefined;
  canAsk: boolean;
  tabIndex?: number;
  onResize?: () => void;
  onRetry: () => void;
}

/** A node's error with a way to try again. With a `lead` it is a notice beside data that is still shown. */
export function Trouble({ error, lead, canAsk, tabIndex = 0, onResize, onRetry }: TroubleProps): JSX.Element {
  return (
    <div class={lead ? "itx-trouble itx-mild" : "itx-trouble"}>
      <WarningIcon />
      <ErrorText error={error} lead={lead} tabIndex={tabIndex} onResize={onResize} />
      <Button
        className="itx-text-button"
        title={canAsk ? undefined : "Nobody to ask: run the cell first"}
        tabIndex={tabIndex}
        disabled={!canAsk}
        onPress={onRetry}
      >
        Retry
      </Button>
    </div>
  );
}
