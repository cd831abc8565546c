// Drawn for a 16 px grid in the colour of the text around them.

import type { JSX } from "preact";

export function Chevron(): JSX.Element {
  return <Icon path="M6 4l4 4-4 4" />;
}

export function RefreshIcon(): JSX.Element {
  return <Icon path="M13 8a5 5 0 1 1-1.5-3.6M13 2.2v2.9h-2.9" />;
}

export function CloseIcon(): JSX.Element {
  return <Icon path="M4.5 4.5l7 7M11.5 4.5l-7 7" />;
}

export function PlusIcon(): JSX.Element {
  return <Icon path="M8 3.5v9M3.5 8h9" />;
}

export function CheckIcon(): JSX.Element {
  return <Icon path="M3.5 8.5l3 3 6-7" />;
}

export function MoreIcon(): JSX.Element {
  return <Icon path="M3.5 8h.01M8 8h.01M12.5 8h.01" />;
}

export function WarningIcon(): JSX.Element {
  return <Icon path="M8 2.5l6 10.8H2L8 2.5zM8 6.6v3.1M8 11.4v.3" />;
}

function Icon({ path }: { path: string }): JSX.Element {
  return (
    <svg class="itx-icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}
