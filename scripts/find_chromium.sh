#!/usr/bin/env bash
# Print the path of a Chromium for the browser tests and the demo, installing one if the machine has none.
# $CHROMIUM, if set, is taken as it is. Everything but the path goes to stderr.
set -euo pipefail

download_timeout_seconds=180

installed() {
  local name path
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    path=$(command -v "$name") || continue
    echo "$path"
    return 0
  done
  return 1
}

downloaded() {
  python - <<'PY'
from pathlib import Path

from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    path = Path(playwright.chromium.executable_path)
if not path.is_file():
    raise SystemExit(1)
print(path)
PY
}

if [[ -n "${CHROMIUM:-}" ]]; then
  if [[ ! -x "$CHROMIUM" ]]; then
    echo "CHROMIUM is set to $CHROMIUM, which is not a program that can be run." >&2
    exit 1
  fi
  echo "$CHROMIUM"
  exit 0
fi

installed && exit 0
downloaded 2>/dev/null && exit 0

echo "No Chromium here: downloading Playwright's." >&2
if timeout "$download_timeout_seconds" playwright install chromium >&2 && downloaded; then
  exit 0
fi

if command -v apt-get >/dev/null; then
  echo "That failed: installing Debian's chromium." >&2
  as_root=()
  [[ $(id -u) -eq 0 ]] || as_root=(sudo -n)
  # An apt run elsewhere on the machine holds the lock for a while; wait for it instead of failing.
  apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  if { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends chromium; } >&2; then
    installed && exit 0
  fi
fi

cat >&2 <<'TEXT'
No Chromium could be found or installed. Do one of these, then run the same target again:
  - install Chromium or Google Chrome so that it is on the PATH,
  - run `.venv/bin/playwright install --with-deps chromium`,
  - set CHROMIUM to the path of one you have.
TEXT
exit 1
