#!/usr/bin/env bash
# example_test.sh PROGRAM PATTERN: runs an example on a private memcached; it must end with 0 and
# print what matches PATTERN. An example that keeps data is given a place for it.
set -euo pipefail
program=$1 pattern=$2
# shellcheck disable=SC2016  # expanded inside
output=$("$(dirname "$0")/../support/with_memcached.sh" sh -c 'mkdir "$WORK/data"; cd "$WORK/data"; "$0" .' \
  "$program")
echo "$output"
grep -qE "$pattern" <<<"$output"
