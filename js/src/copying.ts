// Texts into the clipboard, also of pages without TLS, where the clipboard is out of reach but copying is not.

/** Copy; false where the page may not. `near` is where a helper may be put into the page. */
export async function copyText(text: string, near: Element): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text, near);
  }
}

function copySelected(text: string, near: Element): boolean {
  const helper = document.createElement("textarea");
  helper.value = text;
  helper.setAttribute("aria-hidden", "true");
  helper.style.cssText = "position:fixed;top:0;opacity:0";
  const root = near.getRootNode() as Document | ShadowRoot;
  const focused = root.activeElement;
  near.append(helper);
  helper.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    helper.remove();
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  }
}
