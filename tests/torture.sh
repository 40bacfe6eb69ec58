#!/usr/bin/env bash
# torture.sh SECONDS [SEED]: workers, a nemesis and the check of what they saw (tests/torture).
# Builds what it needs. A failure can be tried again with the seed that is printed, though not its
# timing; the histories of the workers are kept then.
set -euo pipefail
seconds=${1:?usage: torture.sh SECONDS [SEED]}
seed=${2:-$(($(od -An -N2 -tu2 /dev/urandom)))}
cd "$(dirname "$0")/.."
source tests/need.sh
# shellcheck disable=SC2086  # words
need $build_packages $test_packages
cmake --preset release >/dev/null
cmake --build --preset release --target torture >/dev/null
histories=$(mktemp -d)
if build/release/tests/torture "$seconds" "$seed" "$histories"; then
  rm -rf "$histories"
else
  echo "the histories are in $histories"
  exit 1
fi
