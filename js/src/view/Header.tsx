import type { JSX } from "preact";
import { describeStatus } from "../status.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { RefreshIcon } from "./icons.tsx";

/** What this is, whose it is, and how true it is right now. */
export function Header({ store }: { store: TreeStore }): JSX.Element {
  const status = describeStatus(store.link, store.connection, store.takenAt);
  return (
    <div class="itx-header">
      <div class="itx-title">
        <span class="itx-name">Streams</span>
        <span class="itx-project" title={store.project.slug}>
          {store.project.slug}
        </span>
      </div>
      <Button
        className="itx-icon-button"
        label="Refresh root stream"
        disabled={!store.canAsk}
        onPress={() => store.refresh(store.tree.root)}
      >
        <RefreshIcon />
      </Button>
      <div
        class="itx-status"
        data-tone={status.tone}
        role="status"
        aria-live="polite"
        title={status.detail ?? undefined}
      >
        <span class="itx-dot" aria-hidden="true" />
        <span>{status.text}</span>
      </div>
    </div>
  );
}
