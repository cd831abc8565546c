import type { AriaAttributes, ComponentChildren, JSX } from "preact";

interface ButtonProps {
  label?: string;
  title?: string | undefined;
  className: string;
  tabIndex?: number;
  disabled?: boolean;
  aria?: AriaAttributes;
  onPress: (from: HTMLElement) => void;
  children: ComponentChildren;
}

/**
 * A button the notebook leaves alone: its shortcuts look for the attribute on the focused element itself, and
 * would otherwise move or cut cells while somebody works in the tree.
 */
export function Button({
  label,
  title,
  className,
  tabIndex,
  disabled,
  aria,
  onPress,
  children,
}: ButtonProps): JSX.Element {
  return (
    <button
      type="button"
      class={`itx-button ${className}`}
      aria-label={label}
      title={title ?? label}
      tabIndex={tabIndex}
      disabled={disabled}
      data-lm-suppress-shortcuts="true"
      {...aria}
      onClick={(event) => {
        event.stopPropagation();
        onPress(event.currentTarget);
      }}
    >
      {children}
    </button>
  );
}
