import type { JSX } from "preact";
import type { NodeError } from "../channel.ts";
import { Button } from "./Button.tsx";
import { ErrorText } from "./ErrorText.tsx";
import { CloseIcon, WarningIcon } from "./icons.tsx";

/** A trouble of the whole widget, in a line above the tree. */
export function Notice({ error, onDismiss }: { error: NodeError; onDismiss: () => void }): JSX.Element {
  return (
    <div class="itx-notice" role="alert">
      <WarningIcon />
      <ErrorText error={error} />
      <Button className="itx-icon-button" label="Dismiss notice" onPress={onDismiss}>
        <CloseIcon />
      </Button>
    </div>
  );
}
