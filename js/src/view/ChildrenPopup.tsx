import type { JSX, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { parseChildPath } from "../naming.ts";
import { hasData, troubleOf } from "../nodes.ts";
import { joinPath } from "../path.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { ErrorText } from "./ErrorText.tsx";
import { PathList } from "./PathList.tsx";
import { Popup } from "./Popup.tsx";
import { Trouble } from "./Trouble.tsx";

interface ChildrenPopupProps {
  store: TreeStore;
  /** Whose children. */
  path: string;
  anchor: RefObject<HTMLElement | null>;
  /** Unique in the document. */
  id: string;
  /** Where it has gone, if it has gone somewhere. */
  onClose: (isEscape: boolean, gone?: string) => void;
}

/** The children of a stream: go to one, or make a new one. */
export function ChildrenPopup({ store, path, anchor, id, onClose }: ChildrenPopupProps): JSX.Element {
  const [typed, setTyped] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const children = store.tree.childrenOf(path);
  const text = typed.trim().toLowerCase();
  const found = text ? children.filter((segment) => segment.includes(text)) : children;
  const go = (segment: string) => {
    const target = joinPath(path, segment);
    store.goTo(target);
    onClose(false, target);
  };
  return (
    <Popup label={`Children of ${path}`} anchor={anchor} onClose={onClose}>
      {!store.isReadOnly && (
        <NewChild
          store={store}
          path={path}
          id={`${id}-new`}
          input={input}
          typed={typed}
          onType={setTyped}
          onCreated={(created) => onClose(false, created)}
        />
      )}
      <Choice store={store} path={path} isEmpty={children.length === 0} remark="No children yet">
        {found.length > 0 ? (
          <PathList
            key={found.length === children.length}
            id={`${id}-child`}
            label={`Children of ${path}`}
            segments={found}
            hasFocus={store.isReadOnly}
            onChoose={go}
            onLeave={() => input.current?.focus()}
          />
        ) : (
          <p class="itx-remark">None of the children is called so.</p>
        )}
      </Choice>
    </Popup>
  );
}

interface ChoiceProps {
  store: TreeStore;
  /** Whose children are to choose from. */
  path: string;
  isEmpty: boolean;
  /** Said where there is nothing to choose from. */
  remark: string;
  children: JSX.Element;
}

/** What is to choose from; or that it is not there yet, will not come, or could not be read. */
export function Choice({ store, path, isEmpty, remark, children }: ChoiceProps): JSX.Element {
  const { navigation } = store;
  useEffect(() => {
    navigation.look(path);
    return () => navigation.leave(path);
  }, [navigation, path]);
  const node = store.tree.get(path);
  const trouble = troubleOf(node);
  const retry = () => {
    store.refresh(path);
    navigation.look(path);
  };
  if (!isEmpty) return children;
  if (trouble) return <Trouble error={trouble} canAsk={store.canAsk} onRetry={retry} />;
  if (hasData(node) && node?.state !== "loading") return <p class="itx-remark">{remark}</p>;
  if (!store.canAsk) return <p class="itx-remark">Not loaded: run the cell first.</p>;
  if (!navigation.isLate(path)) {
    return (
      <p class="itx-remark" role="status">
        Loading…
      </p>
    );
  }
  return (
    <div class="itx-remark" role="status">
      The kernel has not answered.{" "}
      <Button className="itx-text-button" onPress={retry}>
        Retry
      </Button>
    </div>
  );
}

interface NewChildProps {
  store: TreeStore;
  path: string;
  id: string;
  input: RefObject<HTMLInputElement | null>;
  typed: string;
  onType: (typed: string) => void;
  onCreated: (path: string) => void;
}

function NewChild({ store, path, id, input, typed, onType, onCreated }: NewChildProps): JSX.Element {
  const { navigation } = store;
  const creation = navigation.creation?.parent === path ? navigation.creation : null;
  const asked = useRef<string | null>(null);
  const [isPressed, setIsPressed] = useState(false);
  const parsed = parseChildPath(path, typed);
  const fault = "fault" in parsed && (typed || isPressed) ? parsed.fault : null;
  const isWaiting = creation?.isWaiting === true;

  useLayoutEffect(() => {
    input.current?.focus({ preventScroll: true });
    return () => navigation.dropCreation();
  }, [input, navigation]);
  useEffect(() => {
    if (asked.current !== null && navigation.created === asked.current) onCreated(asked.current);
  });

  const create = () => {
    setIsPressed(true);
    if ("fault" in parsed || isWaiting || !store.canAsk) return;
    asked.current = parsed.path;
    navigation.create(path, typed.trim());
  };
  const remarkId = `${id}-remark`;
  return (
    <form
      class="itx-new"
      onSubmit={(event) => {
        event.preventDefault();
        create();
      }}
    >
      <div class="itx-new-line">
        <input
          ref={input}
          class="itx-field"
          type="text"
          placeholder="New child…"
          aria-label={`New child of ${path}`}
          aria-invalid={fault !== null}
          aria-describedby={remarkId}
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          value={typed}
          data-lm-suppress-shortcuts="true"
          onInput={(event) => {
            onType(event.currentTarget.value);
            asked.current = null;
            navigation.dropCreation();
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter") create();
            else if (event.key === "ArrowDown") focusOptions(event.currentTarget);
            else return;
            event.preventDefault();
          }}
        />
        {/* Not disabled while it waits: what is, hears no keys, Escape least of all. */}
        <Button
          className="itx-text-button"
          disabled={!store.canAsk}
          aria={{ "aria-disabled": isWaiting }}
          onPress={create}
        >
          {isWaiting ? "Creating…" : "Create"}
        </Button>
      </div>
      <div id={remarkId} class="itx-new-remark" aria-live="polite">
        {fault ?? (store.canAsk ? null : "Nobody to ask: run the cell first.")}
        {creation?.error && <ErrorText error={creation.error} />}
      </div>
    </form>
  );
}

function focusOptions(from: HTMLElement): void {
  from.closest(".itx-popup")?.querySelector<HTMLElement>('[role="listbox"]')?.focus();
}
