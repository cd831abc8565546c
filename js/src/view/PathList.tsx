import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { comparePaths } from "../path.ts";
import { lowerBound } from "../rows.ts";
import { ROW_HEIGHT, visibleRange } from "../window.ts";
import { CheckIcon } from "./icons.tsx";
import { isLetter } from "./keys.ts";
import { Shortened } from "./Shortened.tsx";

interface PathListProps {
  id: string;
  label: string;
  /** Sorted. */
  segments: readonly string[];
  /** The one that is chosen already. */
  current?: string | undefined;
  hasFocus?: boolean;
  onChoose: (segment: string) => void;
  /** Up from the first one. */
  onLeave?: () => void;
}

/** Height of the list at the most, in CSS pixels: whole rows, and half a one to show that there is more. */
const MAX_HEIGHT = 10.5 * ROW_HEIGHT;
/** Letters that follow each other as quickly as this are one word. */
const TYPE_AHEAD_MS = 600;

/** Names to choose from: a list box of any length, of which what is in sight is drawn. */
export function PathList(props: PathListProps): JSX.Element {
  const { id, label, segments, current, hasFocus = false, onChoose, onLeave } = props;
  const list = useRef<HTMLDivElement>(null);
  const typed = useRef({ text: "", at: Number.NEGATIVE_INFINITY });
  const [wanted, setActive] = useState(() => placeOf(segments, current ?? ""));
  const [top, setTop] = useState(0);
  const active = Math.max(0, Math.min(wanted, segments.length - 1));
  const height = Math.min(MAX_HEIGHT, segments.length * ROW_HEIGHT);
  const { first, last } = visibleRange(top, height, segments.length, []);

  const activate = (index: number) => {
    setActive(index);
    const element = list.current;
    if (!element) return;
    const rowTop = index * ROW_HEIGHT;
    if (rowTop < element.scrollTop) element.scrollTop = rowTop;
    else if (rowTop + ROW_HEIGHT > element.scrollTop + height)
      element.scrollTop = rowTop + ROW_HEIGHT - height;
    setTop(element.scrollTop);
  };
  useLayoutEffect(() => {
    activate(active);
    if (hasFocus) list.current?.focus({ preventScroll: true });
    // Once: later it is where somebody moved it.
  }, []);

  const pressed = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { key } = event;
    const steps: Record<string, number> = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      Home: 0,
      End: segments.length,
    };
    const step = steps[key];
    if (key === "ArrowUp" && active === 0) onLeave?.();
    else if (step !== undefined) activate(Math.max(0, Math.min(step, segments.length - 1)));
    else if (key === "Enter" || key === " ") onChoose(segments[active] ?? "");
    else if (isLetter(event)) {
      const isGoingOn = event.timeStamp - typed.current.at < TYPE_AHEAD_MS;
      typed.current = { text: (isGoingOn ? typed.current.text : "") + key, at: event.timeStamp };
      activate(findTyped(segments, active, typed.current.text.toLowerCase()));
    } else return;
    event.preventDefault();
  };

  const shown = [];
  for (let index = first; index <= last; index++) shown.push(index);
  if (active < first) shown.unshift(active);
  if (active > last) shown.push(active);
  return (
    <div
      ref={list}
      class="itx-options"
      style={`height:${height}px`}
      role="listbox"
      aria-label={label}
      aria-activedescendant={`${id}-${active}`}
      tabIndex={0}
      data-lm-suppress-shortcuts="true"
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={pressed}
    >
      <div class="itx-rows" role="presentation" style={`height:${segments.length * ROW_HEIGHT}px`}>
        {/* What stands absolutely gives a list no width. */}
        <div class="itx-widest" aria-hidden="true">
          {longestOf(segments)}
        </div>
        {shown.map((index) => {
          const segment = segments[index] ?? "";
          return (
            // biome-ignore lint/a11y/useFocusableInteractive: the list box holds the focus and names the active option
            // biome-ignore lint/a11y/useKeyWithClickEvents: Enter and Space choose through the list box
            <div
              key={segment}
              id={`${id}-${index}`}
              class="itx-option"
              style={`top:${index * ROW_HEIGHT}px`}
              role="option"
              aria-selected={segment === current}
              aria-label={segment}
              aria-setsize={segments.length}
              aria-posinset={index + 1}
              data-active={index === active || undefined}
              title={segment}
              onClick={() => onChoose(segment)}
            >
              <span class="itx-check">{segment === current && <CheckIcon />}</span>
              <span class="itx-label" aria-hidden="true">
                <Shortened text={segment} />
              </span>
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** Of long lists those at the top: looking at all would cost more than it is worth. */
function longestOf(segments: readonly string[]): string {
  return segments.slice(0, 1_000).reduce((a, b) => (b.length > a.length ? b : a), "");
}

function placeOf(segments: readonly string[], segment: string): number {
  return lowerBound(segments.length, (i) => comparePaths(segments[i] ?? "", segment) < 0);
}

/** The next name, past the end from the top again, that begins with what was typed; where there is none, it stays. */
function findTyped(segments: readonly string[], active: number, typed: string): number {
  const begin = typed.length === 1 ? active + 1 : active;
  for (let step = 0; step < segments.length; step++) {
    const index = (begin + step) % segments.length;
    if (segments[index]?.toLowerCase().startsWith(typed)) return index;
  }
  return active;
}
