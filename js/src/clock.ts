/** Time as the widget sees it, so that tests can move it. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Call `action` once, `delay` milliseconds from now; the result cancels it. */
  after(delay: number, action: () => void): () => void;
}

export const browserClock: Clock = {
  now: () => Date.now(),
  after: (delay, action) => {
    const timer = setTimeout(action, delay);
    return () => clearTimeout(timer);
  },
};
