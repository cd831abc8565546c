#!/usr/bin/env bash
# Print the path of a Python that can make our environment: 3.11 or newer, with venv. $PYTHON, if set, is the only one tried.
set -euo pipefail

probe='
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
import ensurepip, venv
# Inside a virtual environment (ours may stand first on the PATH), the Python it was made from.
print(sys._base_executable)
'

# A version manager may put names on the PATH that only print an error, so each candidate is run, not just found.
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
  if path=$("$candidate" -c "$probe" 2>/dev/null); then
    echo "$path"
    exit 0
  fi
done

echo "itx-notebook needs Python 3.11 or newer with the venv module; tried: ${PYTHON:-python3 python3.13 python3.12 python3.11 python}." >&2
echo "Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3 ..." >&2
exit 1
