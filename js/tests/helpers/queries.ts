// Find things as a person does: by what they are and what they are called.

const TAGS: Record<string, string> = {
  button: "button",
  heading: "h4",
  group: "details",
  region: "section[aria-label]",
};

/** All elements of this role, in order of the document. */
export function allByRole(within: Element, role: string): HTMLElement[] {
  const tag = TAGS[role];
  return [...within.querySelectorAll<HTMLElement>(`[role="${role}"]${tag ? `, ${tag}` : ""}`)];
}

/** The one element of this role and accessible name. */
export function byRole(within: Element, role: string, name?: string): HTMLElement {
  const found = allByRole(within, role).filter((element) => name === undefined || nameOf(element) === name);
  const [only] = found;
  if (!only || found.length > 1) {
    const names = allByRole(within, role).map(nameOf);
    throw new Error(
      `${found.length} elements of role ${role} called ${name}; there are: ${names.join(" | ")}`,
    );
  }
  return only;
}

export function nameOf(element: Element): string {
  return element.getAttribute("aria-label") ?? element.textContent ?? "";
}

/** Accessible names of all elements of this role. */
export function namesOf(within: Element, role: string): string[] {
  return allByRole(within, role).map(nameOf);
}

/** Wait until what changed so far was drawn: one animation frame, and the rendering it starts. */
export async function drawn(): Promise<void> {
  await new Promise((resolve) => requestAnimationFrame(resolve));
  await new Promise((resolve) => setTimeout(resolve));
}

export function press(element: Element, key: string, more: KeyboardEventInit = {}): KeyboardEvent {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
  element.dispatchEvent(event);
  return event;
}
