import type { ComponentChildren, JSX, RefObject } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { useKeptFocus } from "./useKeptFocus.ts";

interface PopupProps {
  label: string;
  /** What it hangs on, and what the focus goes back to is up to `onClose`. */
  anchor: RefObject<HTMLElement | null>;
  /** `isEscape`: the focus is still inside and wants to be given back. */
  onClose: (isEscape: boolean) => void;
  children: ComponentChildren;
}

/** Space to the edges of the page, in CSS pixels. */
const MARGIN = 8;

/**
 * A small window below `anchor`, over everything else: in the browser's top layer, where neither the notebook's cells
 * nor a short panel cut it off. Closes on Escape, on a press elsewhere and when the focus goes elsewhere.
 */
export function Popup({ label, anchor, onClose, children }: PopupProps): JSX.Element {
  const box = useRef<HTMLDivElement | null>(null);
  const close = useRef(onClose);
  close.current = onClose;

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const { ownerDocument: page } = element;
    // Seen from the document, what happens inside a shadow root happens to its host: the root knows more.
    const root = element.getRootNode() as Document | ShadowRoot;
    if (!element.contains(root.activeElement)) element.focus({ preventScroll: true });
    const isInside = (node: EventTarget | null) =>
      node instanceof Node && (element.contains(node) || anchor.current?.contains(node) === true);
    const pressed = (event: Event) => {
      const [target = null] = event.composedPath();
      const isHost = "host" in root && target === root.host && event.currentTarget !== root;
      if (!isHost && !isInside(target)) close.current(false);
    };
    const left = ({ relatedTarget }: FocusEvent) => {
      if (relatedTarget && !isInside(relatedTarget)) close.current(false);
    };
    const place = () => placeBelow(element, anchor.current);
    const roots = new Set<Node>([page, root]);
    for (const each of roots) each.addEventListener("pointerdown", pressed, true);
    element.addEventListener("focusout", left);
    page.defaultView?.addEventListener("scroll", place, true);
    page.defaultView?.addEventListener("resize", place);
    return () => {
      for (const each of roots) each.removeEventListener("pointerdown", pressed, true);
      element.removeEventListener("focusout", left);
      page.defaultView?.removeEventListener("scroll", place, true);
      page.defaultView?.removeEventListener("resize", place);
    };
  }, [anchor]);
  useKeptFocus(box);
  // What comes into it changes its size.
  useLayoutEffect(() => {
    if (box.current) placeBelow(box.current, anchor.current);
  });

  return (
    <div
      ref={(element) => {
        box.current = element;
        if (element) show(element);
      }}
      class="itx-popup"
      popover="manual"
      role="dialog"
      aria-label={label}
      tabIndex={-1}
      data-lm-suppress-shortcuts="true"
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          event.preventDefault();
          onClose(true);
        }
        // Neither the notebook nor the tree has to do with what is typed here.
        event.stopPropagation();
      }}
    >
      {children}
    </div>
  );
}

/**
 * Before anything inside it wants the focus, which nothing hidden can have. Without a top layer it stands in the flow,
 * where nothing is cut off either.
 */
function show(box: HTMLElement): void {
  if (!box.showPopover) box.style.position = "static";
  else if (!box.matches(":popover-open")) box.showPopover();
}

/** Below the anchor if there is room, else above, and never past the edges of the page. */
function placeBelow(box: HTMLElement, anchor: HTMLElement | null): void {
  if (!anchor || !box.showPopover) return;
  const { top, bottom, left, right } = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = box;
  const isRtl = getComputedStyle(anchor).direction === "rtl";
  const wanted = isRtl ? right - width : left;
  const x = Math.max(MARGIN, Math.min(wanted, window.innerWidth - width - MARGIN));
  const hasRoomBelow = bottom + height + MARGIN <= window.innerHeight || top < height + MARGIN;
  box.style.left = `${x}px`;
  box.style.top = `${hasRoomBelow ? bottom + 2 : top - height - 2}px`;
}
