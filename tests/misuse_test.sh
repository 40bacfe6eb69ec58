#!/usr/bin/env bash
# misuse_test.sh COMPILER INCLUDE FILE MESSAGE: the file must not compile, and say why in a line.
set -uo pipefail
compiler=$1 include=$2 file=$3 message=$4
output=$("$compiler" -std=c++20 -fsyntax-only -I"$include" "$file" 2>&1) && {
  echo "it compiles"
  exit 1
}
errors=$(grep -c 'error:' <<<"$output")
grep 'error:' <<<"$output"
[ "$errors" -eq 1 ] || { echo "$errors errors instead of one"; exit 1; }
grep 'error:' <<<"$output" | grep -q "$message"
