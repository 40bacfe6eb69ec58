#!/usr/bin/env bash
# run.sh [SECONDS]: fuzzes each kind of foreign bytes for so long (15 s), from the corpora kept here.
set -euo pipefail
seconds=${1:-15}
cd "$(dirname "$0")/../.."
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
for name in servers record grant key options; do
  found=$(mktemp -d)
  build/fuzz/tests/fuzz/${name}_fuzz -max_total_time="$seconds" -max_len=2048 -timeout=10 \
    -print_final_stats=1 -artifact_prefix="$found/" "$found" "tests/fuzz/corpus/$name" \
    >"$found.log" 2>&1 || { tail -30 "$found.log"; echo "$name: see $found"; exit 1; }
  echo "fuzzed $name: $(grep -o 'number_of_executed_units: [0-9]*' "$found.log")"
  rm -rf "$found" "$found.log"
done
