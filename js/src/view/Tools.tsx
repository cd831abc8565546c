import type { JSX } from "preact";
import type { Sort } from "../channel.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { CloseIcon } from "./icons.tsx";

const SORTS: Record<Sort, string> = { name: "by name", activity: "by activity", count: "by count" };

/** Search and order. */
export function Tools({ store }: { store: TreeStore }): JSX.Element {
  const { text, sort } = store.tree.arrangement;
  return (
    <div class="itx-tools">
      <input
        class="itx-field"
        type="search"
        placeholder="Search paths"
        aria-label="Search paths"
        spellcheck={false}
        value={store.filter}
        data-lm-suppress-shortcuts="true"
        onInput={(event) => store.search(event.currentTarget.value)}
        onKeyDown={(event) => {
          // Escape ends the search, and what it ended is not left for the host to end as well.
          if (event.key !== "Escape" || !store.filter) return;
          event.preventDefault();
          event.stopPropagation();
          store.search("");
        }}
      />
      {store.filter && (
        <Button className="itx-icon-button" label="Clear search" onPress={() => store.search("")}>
          <CloseIcon />
        </Button>
      )}
      <select
        class="itx-field"
        aria-label="Order"
        data-lm-suppress-shortcuts="true"
        onChange={(event) => store.sort(event.currentTarget.value as Sort)}
      >
        {Object.entries(SORTS).map(([by, label]) => (
          <option key={by} value={by} selected={by === sort}>
            {label}
          </option>
        ))}
      </select>
      <span class="itx-found" aria-live="polite">
        {text && describeFound(store)}
      </span>
    </div>
  );
}

function describeFound({ tree }: TreeStore): string {
  const count = tree.found;
  if (count === 0) return "No streams found.";
  return count === 1 ? "1 stream" : `${count} streams`;
}
