#!/usr/bin/env bash
# Usage: lock.sh PYTHON. Rewrite constraints.txt with the newest versions that resolve together.
# Run it with the oldest Python supported: what installs there installs on the newer ones.
set -euo pipefail

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$1" -m venv "$scratch/venv"
pip="$scratch/venv/bin/pip"
"$pip" install -qq --upgrade pip setuptools
SKIP_JUPYTER_BUILDER=1 "$pip" install -qq --only-binary :all: --no-binary forbiddenfruit \
  -e . --group dev --group node
{
  echo "# Every version the environment is made of, so that a run today and one next month agree."
  echo "# Written by \`make lock\`; pyproject.toml says what is asked for."
  "$pip" freeze --all --exclude-editable
} >"$scratch/constraints.txt"
mv "$scratch/constraints.txt" constraints.txt
