import type { Outgoing } from "../../src/channel.ts";
import type { Model } from "../../src/model.ts";

/** One model as the front end keeps it; like anywidget, it hands every caller a proxy of its own. */
export class FakeModel {
  readonly traits: Record<string, unknown>;
  readonly sent: Outgoing[] = [];
  /** Callbacks that came with each message. */
  readonly callbacks: unknown[] = [];
  /** Traits that were set from the browser's side. */
  readonly written: string[] = [];
  /** Sending throws while this is set, as after a kernel restart. */
  isDead = false;
  #listeners = new Map<string, Set<(value: unknown) => void>>();

  constructor(traits: Record<string, unknown>) {
    this.traits = { ...traits };
  }

  get listenerCount(): number {
    return [...this.#listeners.values()].reduce((sum, listeners) => sum + listeners.size, 0);
  }

  proxy(extra: Partial<Model> = {}): Model {
    return {
      get: (trait) => this.traits[trait],
      set: (trait, value) => {
        this.written.push(trait);
        this.change(trait, value);
      },
      on: (event, listener) => {
        const listeners = this.#listeners.get(event) ?? new Set();
        this.#listeners.set(event, listeners.add(listener));
      },
      off: (event, listener) => {
        this.#listeners.get(event)?.delete(listener);
      },
      send: (message, callbacks) => {
        if (this.isDead) throw new Error("Cannot send");
        this.sent.push(message);
        this.callbacks.push(callbacks);
      },
      ...extra,
    };
  }

  /** A trait arrives, or is set. */
  change(trait: string, value: unknown): void {
    this.traits[trait] = value;
    this.emit(`change:${trait}`, value);
  }

  emit(event: string, value?: unknown): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(value);
  }
}
