import type { ComponentChildren, JSX } from "preact";

interface ButtonProps {
  label?: string;
  title?: string | undefined;
  className: string;
  tabIndex?: number;
  disabled?: boolean;
  onPress: () => void;
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
      onClick={(event) => {
        event.stopPropagation();
        onPress();
      }}
    >
      {children}
    </button>
  );
}
