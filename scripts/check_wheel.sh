#!/usr/bin/env bash
# Build the sdist and from it the wheel, install that into a clean environment, and check it there, outside the checkout.
set -euo pipefail

checkout=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "-- building"
PIP_CONSTRAINT=$checkout/constraints.txt python -m build --outdir "$scratch/dist" . >"$scratch/build.log" 2>&1 \
  || { cat "$scratch/build.log" >&2; exit 1; }

echo "-- installing"
python -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install -qq --only-binary :all: -c constraints.txt "$scratch"/dist/*.whl

echo "-- checking"
cd "$scratch"
venv/bin/python -I "$checkout/tests/wheel/check_wheel.py" "$checkout" dist
