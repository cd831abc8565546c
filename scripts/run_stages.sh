#!/usr/bin/env bash
# Run every stage of `make test`. One that fails does not hide the others: the table at the end names them all.
set -euo pipefail

stages=(lint test-js test-unit test-notebooks docs test-browser test-wheel)

report=()
failed=0
for stage in "${stages[@]}"; do
  echo "==> make $stage"
  started=$SECONDS
  outcome=passed
  # The stages run one after another: on a small machine they would only slow each other, and time-outs with them.
  MAKEFLAGS='' make --no-print-directory "$stage" || { outcome=FAILED && failed=1; }
  report+=("$(printf '%-16s %-7s %4d s' "$stage" "$outcome" $((SECONDS - started)))")
done

printf '\n'
printf '%s\n' "${report[@]}" "$(printf '%-24s %4d s' total "$SECONDS")"
exit "$failed"
