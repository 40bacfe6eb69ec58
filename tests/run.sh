#!/usr/bin/env bash
# run.sh [--coverage]: installs what is needed (as root, on Debian 12 or 13), builds everything and runs
# all tests: with g++, with clang++ and its thread-safety analysis, and under the address,
# undefined-behaviour and thread sanitizers; then clang-tidy, the model, the fuzzers and a short
# torture. --coverage: only the tests, and which lines they reach; at least 95 % must be.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/need.sh

# shellcheck disable=SC2086  # words
need $build_packages $test_packages clang libclang-rt-dev clang-tidy spin gcovr

build_and_test() {
  local preset
  for preset in "$@"; do
    echo "== $preset"
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset"
    ctest --preset "$preset"
  done
}

if [ "${1:-}" = --coverage ]; then
  build_and_test coverage
  gcovr --root . --filter 'include/' --filter 'src/' --object-directory build/coverage \
    --exclude-throw-branches --fail-under-line 95 build/coverage
  exit
fi

build_and_test release clang asan tsan

echo "== clang-tidy"
cmake --preset clang -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null
if ! run-clang-tidy -quiet -p build/clang "$PWD/src/" >build/clang-tidy.log 2>&1; then
  grep -E 'error|warning' build/clang-tidy.log
  exit 1
fi

echo "== model"
tests/model/run.sh

echo "== fuzzing"
tests/fuzz/run.sh 6

echo "== torture"
tests/torture.sh 40
tests/store_torture.sh 20

echo "== summary of faults tried"
for faults in 'FaultAtEveryByte' 'Faults\.' Leaks ProcessFaults 'Restart\.' Eviction IdleConnections \
  HostNames 'Queue\.' Hostile Credentials Sasl BadServers WallClock; do
  printf '%-20s %s\n' "${faults%\\.}" \
    "$(ctest --test-dir build/release -N -R "^$faults" | sed -n 's/^Total Tests: //p') tests"
done
