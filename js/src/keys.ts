/** A text nobody else has: 96 random bits. `crypto.randomUUID` is not there on pages without TLS. */
export function makeKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A number from which counting on is unlikely to meet another page's. */
export function makeFirstNumber(): number {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) * 2 ** 16;
}
