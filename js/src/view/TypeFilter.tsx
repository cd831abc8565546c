import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { CloseIcon } from "./icons.tsx";

interface TypeFilterProps {
  store: TreeStore;
  path: string;
  /** Id of the list of types that were seen, which the form below shares. */
  listId: string;
}

/** Show the events of one type: one that was seen is taken at once, any other at Enter. */
export function TypeFilter({ store, path, listId }: TypeFilterProps): JSX.Element {
  const { type, types } = store.details;
  // What is being typed outlives the drawings that following brings.
  const [typed, setTyped] = useState(type);
  const apply = (wanted: string) => {
    if (wanted !== store.details.type) store.showDetails(path, wanted);
  };
  const typeIn = (text: string) => {
    setTyped(text);
    if (text === "" || types.includes(text)) apply(text);
  };
  return (
    <>
      <input
        class="itx-field"
        type="search"
        placeholder="Type, Enter"
        aria-label="Only events of the type"
        list={listId}
        autocomplete="off"
        spellcheck={false}
        value={typed}
        data-lm-suppress-shortcuts="true"
        onInput={(event) => typeIn(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter") apply(typed.trim());
          // Escape ends the filter, and what it ended is not left for the host to end as well.
          if (event.key !== "Escape" || !typed) return;
          event.preventDefault();
          event.stopPropagation();
          typeIn("");
        }}
      />
      <datalist id={listId}>
        {types.map((seen) => (
          <option key={seen} value={seen} />
        ))}
      </datalist>
      {typed && (
        <Button className="itx-icon-button" label="Clear type" onPress={() => typeIn("")}>
          <CloseIcon />
        </Button>
      )}
    </>
  );
}
