#!/usr/bin/env bash
# startup.sh PROGRAM [ROUNDS]: how long it takes from starting `memcachedlock run` until its command
# runs, beside flock(1) and beside no lock, in turn, on a private memcached. Medians.
set -euo pipefail
program=$(realpath "$1") rounds=${2:-300}
here=$(dirname "$(realpath "$0")")
if [ -z "${WORK:-}" ]; then exec "$here/../support/with_memcached.sh" "$0" "$program" "$rounds"; fi

# In microseconds; the command is a shell that tells the time, the same on all sides.
took() {
  local from=${EPOCHREALTIME/./} at
  # shellcheck disable=SC2016  # expanded by the command
  at=$("$@" bash --norc -c 'echo "${EPOCHREALTIME/./}"')
  echo $((at - from))
}
for _ in $(seq "$rounds"); do
  took env >>"$WORK/bare"
  took flock "$WORK/lock" >>"$WORK/flock"
  took "$program" run key -- >>"$WORK/memcachedlock"
done
for side in bare flock memcachedlock; do
  printf '%-14s %s us\n' "$side" "$(sort -n "$WORK/$side" | sed -n "$((rounds / 2 + 1))p")"
done
