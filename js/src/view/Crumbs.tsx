import type { JSX, RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { comparePaths, isBelow, joinPath, lastSegment, parentOf } from "../path.ts";
import { lowerBound } from "../rows.ts";
import type { TreeStore } from "../store.ts";
import { Button } from "./Button.tsx";
import { ChildrenPopup, Choice } from "./ChildrenPopup.tsx";
import { Chevron, MoreIcon } from "./icons.tsx";
import { PathList } from "./PathList.tsx";
import { Popup } from "./Popup.tsx";

interface CrumbsProps {
  store: TreeStore;
  /** Unique in the document. */
  id: string;
}

/** Which list is open: of the siblings of a path, of the children of the current one, or of the steps left out. */
type Open = { kind: "siblings" | "children" | "steps"; path: string };

/**
 * Where one is: a step for each ancestor of the current path. Between the steps stands the way to their siblings, behind
 * the last one that to its children. Where there is no room, steps in the middle are left out.
 */
export function Crumbs({ store, id }: CrumbsProps): JSX.Element {
  const { root } = store.tree;
  const current = store.selected !== null && isBelow(store.selected, root) ? store.selected : root;
  const steps = stepsTo(current, root);
  const bar = useRef<HTMLDivElement>(null);
  const trigger = useRef<HTMLElement | null>(null);
  const hasGone = useRef(false);
  const [open, setOpen] = useState<Open | null>(null);
  const hidden = useHidden(bar, current);
  // The first and the last step stay; left out are those after the first one.
  const leftOut = steps.slice(1, 1 + Math.min(hidden, steps.length - 2));
  const shown = steps.filter((path) => !leftOut.includes(path));

  const toggle = (next: Open, from: HTMLElement | null) => {
    trigger.current = from;
    setOpen(open?.kind === next.kind && open.path === next.path ? null : next);
  };
  const close = (isEscape: boolean, gone?: string) => {
    setOpen(null);
    if (isEscape && open) trigger.current?.focus();
    hasGone.current = gone !== undefined;
  };
  const go = (path: string) => {
    if (path === store.selected) {
      close(true);
      return;
    }
    store.goTo(path);
    close(false, path);
  };
  // Somebody else went elsewhere, or what was to be made is there.
  useLayoutEffect(() => {
    if (open) close(false, current);
  }, [current]);
  // The steps are others now: where one has gone to is the last of them.
  useLayoutEffect(() => {
    if (!hasGone.current) return;
    hasGone.current = false;
    bar.current?.querySelector<HTMLElement>('[aria-current="page"]')?.focus();
  });

  const popup = open && (
    <>
      {open.kind === "children" && (
        <ChildrenPopup store={store} path={current} anchor={trigger} id={id} onClose={close} />
      )}
      {open.kind === "siblings" && (
        <Siblings store={store} path={open.path} anchor={trigger} id={id} onGo={go} onClose={close} />
      )}
      {open.kind === "steps" && (
        <Popup label="Steps left out" anchor={trigger} onClose={close}>
          <PathList id={`${id}-step`} label="Steps left out" segments={leftOut} hasFocus onChoose={go} />
        </Popup>
      )}
    </>
  );
  const isOpen = (kind: Open["kind"], path: string) => open?.kind === kind && open.path === path;
  return (
    // A group, since a notebook of many trees would be one of many landmarks.
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for a form
    <div ref={bar} class="itx-crumbs" role="group" aria-label="Path">
      <ol>
        {shown.map((path, index) => (
          <li key={path} class="itx-crumb">
            {index === 1 && leftOut.length > 0 && (
              <>
                <Opener
                  label="Steps left out"
                  isOpen={isOpen("steps", root)}
                  onPress={(from) => toggle({ kind: "steps", path: root }, from)}
                >
                  <MoreIcon />
                </Opener>
                {isOpen("steps", root) && popup}
              </>
            )}
            {path !== root && (
              <>
                <Opener
                  label={`Siblings of ${path}`}
                  isOpen={isOpen("siblings", path)}
                  onPress={(from) => toggle({ kind: "siblings", path }, from)}
                >
                  <Chevron />
                </Opener>
                {isOpen("siblings", path) && popup}
              </>
            )}
            <Button
              className="itx-step"
              title={path}
              aria={path === current ? { "aria-current": "page" } : {}}
              onPress={() => go(path)}
            >
              <bdi>{path === root ? root : lastSegment(path)}</bdi>
            </Button>
            {path === current && (
              <>
                <Opener
                  label={`Children of ${path}`}
                  isOpen={isOpen("children", path)}
                  onPress={(from) => toggle({ kind: "children", path }, from)}
                >
                  <Chevron />
                </Opener>
                {isOpen("children", path) && popup}
              </>
            )}
          </li>
        ))}
      </ol>
    </div>
  );
}

interface OpenerProps {
  label: string;
  isOpen: boolean;
  onPress: (from: HTMLElement | null) => void;
  children: JSX.Element;
}

function Opener({ label, isOpen, onPress, children }: OpenerProps): JSX.Element {
  return (
    <Button
      className="itx-opener"
      label={label}
      aria={{ "aria-haspopup": "dialog", "aria-expanded": isOpen }}
      onPress={onPress}
    >
      {children}
    </Button>
  );
}

interface SiblingsProps {
  store: TreeStore;
  path: string;
  anchor: RefObject<HTMLElement | null>;
  id: string;
  onGo: (path: string) => void;
  onClose: (isEscape: boolean) => void;
}

/** The children of the parent, and `path` among them although the parent may not name it yet. */
function Siblings({ store, path, anchor, id, onGo, onClose }: SiblingsProps): JSX.Element {
  const parent = parentOf(path);
  const own = lastSegment(path);
  const known = store.tree.childrenOf(parent);
  const at = lowerBound(known.length, (i) => comparePaths(known[i] ?? "", own) < 0);
  const segments = known[at] === own ? known : [...known.slice(0, at), own, ...known.slice(at)];
  return (
    <Popup label={`Siblings of ${path}`} anchor={anchor} onClose={onClose}>
      <Choice store={store} path={parent} isEmpty={known.length === 0} remark="No siblings">
        <PathList
          id={`${id}-sibling`}
          label={`Children of ${parent}`}
          segments={segments}
          current={own}
          hasFocus
          onChoose={(segment) => onGo(joinPath(parent, segment))}
        />
      </Choice>
    </Popup>
  );
}

/** Every step from the root of the tree to `path`, both included. */
function stepsTo(path: string, root: string): string[] {
  const steps = [path];
  for (let step = path; step !== root; ) {
    step = parentOf(step);
    steps.unshift(step);
  }
  return steps;
}

/** How many steps must be left out for the others to fit; found before anything is painted. */
function useHidden(bar: RefObject<HTMLElement | null>, current: string): number {
  const [{ hidden, of }, setHidden] = useState({ hidden: 0, of: current });
  const count = of === current ? hidden : 0;
  useLayoutEffect(() => {
    const list = bar.current?.firstElementChild;
    if (!list || list.scrollWidth <= list.clientWidth || list.childElementCount <= 2) return;
    setHidden({ hidden: count + 1, of: current });
  });
  useLayoutEffect(() => {
    const element = bar.current;
    if (!element) return;
    let width = element.clientWidth;
    const observer = new ResizeObserver(() => {
      // More room may be enough for more steps.
      if (element.clientWidth !== width) setHidden({ hidden: 0, of: current });
      width = element.clientWidth;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [bar, current]);
  return count;
}
