import type { JSX } from "preact";

/** A text longer than this gives way in its middle, so that what tells siblings apart stays readable. */
const MAX_WHOLE = 12;
const TAIL = 14;

interface ShortenedProps {
  text: string;
  /** What a search found in it, as `[start, end)`. */
  found?: [number, number] | null;
}

/** A name that keeps its beginning and its end where there is no room for all of it. */
export function Shortened({ text, found }: ShortenedProps): JSX.Element {
  // By code points: a cut between surrogates would draw two broken characters.
  const characters = Array.from(text);
  const isLong = characters.length > MAX_WHOLE;
  const tail = Math.min(TAIL, characters.length >> 1);
  const cut = isLong ? characters.slice(0, -tail).join("").length : text.length;
  const part = (begin: number, end: number) => {
    const [from, to] = found ?? [0, 0];
    const [first, last] = [Math.max(from, begin), Math.min(to, end)];
    if (first >= last) return text.slice(begin, end);
    return [
      text.slice(begin, first),
      <mark key="found">{text.slice(first, last)}</mark>,
      text.slice(last, end),
    ];
  };
  return (
    <>
      <span class="itx-label-head">{part(0, cut)}</span>
      {isLong && <span class="itx-label-tail">{part(cut, text.length)}</span>}
    </>
  );
}
