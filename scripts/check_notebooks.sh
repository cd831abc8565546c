#!/usr/bin/env bash
# Run every notebook against its saved outputs: twice on one store, first in one order and then, on a fresh store,
# in the other. A notebook that only works on an empty store, or only after another one, fails here.
set -euo pipefail

forward=(notebooks/*.ipynb)
if [[ ! -e "${forward[0]}" ]]; then
  echo "There are no notebooks in notebooks/." >&2
  exit 1
fi
reverse=()
for notebook in "${forward[@]}"; do
  reverse=("$notebook" "${reverse[@]}")
done

scratch=$PWD/build/check-notebooks
rm -rf "$scratch"
mkdir -p "$scratch"
# The person's own profile, history and settings stay out of it.
export IPYTHONDIR=$scratch/ipython JUPYTER_CONFIG_DIR=$scratch/jupyter

run() {
  local order=$1 round
  shift
  export ITX_HOME=$scratch/$order
  for round in first second; do
    echo "-- $order order, $round run"
    pytest --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg "$@"
  done
}

run forward "${forward[@]}"
run reverse "${reverse[@]}"
