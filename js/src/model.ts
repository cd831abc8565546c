// What anywidget hands us, as far as we use it. `initialize` and `render` get different objects for one model.

import type { Outgoing } from "./channel.ts";

export interface Model {
  get(trait: string): unknown;
  set(trait: string, value: unknown): void;
  on(event: string, listener: (value: unknown) => void): void;
  off(event: string, listener: (value: unknown) => void): void;
  send(message: Outgoing, callbacks?: unknown): unknown;
  /** Missing in hosts other than Jupyter's, and without `callbacks` in some. */
  widget_manager?: { callbacks?: () => unknown };
}

export interface InitializeProps {
  model: Model;
  signal?: AbortSignal;
}

export interface RenderProps extends InitializeProps {
  el: HTMLElement;
}

/** Listen to several events of a model; the result ends it and may be called again. */
export function listen(model: Model, listeners: Record<string, (value: unknown) => void>): () => void {
  for (const [event, listener] of Object.entries(listeners)) model.on(event, listener);
  return () => {
    for (const [event, listener] of Object.entries(listeners)) model.off(event, listener);
  };
}

/** Run `release` once: when `signal` aborts or when the result is called, whichever comes first. */
export function releaseOnce(signal: AbortSignal | undefined, release: () => void): () => void {
  let isDone = false;
  const once = () => {
    if (isDone) return;
    isDone = true;
    signal?.removeEventListener("abort", once);
    release();
  };
  signal?.addEventListener("abort", once);
  return once;
}
