#!/usr/bin/env bash
# misuse_test.sh COMPILER INCLUDE FILE MESSAGE: the file must not compile, and say why in its first
# line of errors; in the only one, unless it is compiled with flags of its own.
set -uo pipefail
compiler=$1 include=$2 file=$3 message=$4
flags=$(sed -n '1s|^// flags: ||p' "$file")
# shellcheck disable=SC2086  # words
output=$("$compiler" ${flags:--std=c++20} -fsyntax-only -I"$include" "$file" 2>&1) && {
  echo "it compiles"
  exit 1
}
errors=$(grep -c 'error:' <<<"$output")
grep 'error:' <<<"$output" | head -5
[ -n "$flags" ] || [ "$errors" -eq 1 ] || { echo "$errors errors instead of one"; exit 1; }
grep -m1 'error:' <<<"$output" | grep -q "$message"
