#!/usr/bin/env bash
# run.sh [--all | --coverage]: installs what is needed (as root, on Debian 12 or 13), builds
# everything with g++ and runs all tests.
# --all: also under the address and undefined-behaviour sanitizers, and with clang++ under the thread
# sanitizer and with its thread-safety analysis; clang-tidy, the models, the fuzzers, torture, other
# machines (by qemu) and Debian 13.
# --coverage: only the tests, and which lines they reach; at least 95 % must be.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/support/need.sh
all=(clang libclang-rt-dev clang-tidy spin qemu-user g++-aarch64-linux-gnu g++-i686-linux-gnu)

# stage NAME COMMAND...: runs it; its seconds are printed at the end, also after a failure.
told=$(mktemp)
trap 'echo; cat "$told"; rm -f "$told"' EXIT
stage() {
  local name=$1 begin=$SECONDS
  shift
  echo "== $name"
  "$@" || { echo "$name FAILED after $((SECONDS - begin)) s" >>"$told"; exit 1; }
  echo "$name $((SECONDS - begin)) s" >>"$told"
}

build() { cmake --preset "$1" >/dev/null && cmake --build --preset "$1"; }
build_and_test() {
  stage "$1: build" build "$1"
  stage "$1: tests" ctest --preset "$1"
}

# Of our own sources only; the compile commands are clang's.
tidy() {
  run-clang-tidy -quiet -p build/tsan "$PWD/src/" >build/clang-tidy.log 2>&1 ||
    { grep -E 'error|warning' build/clang-tidy.log; return 1; }
}

# shellcheck disable=SC2086  # words
case ${1:-} in
  "")
    stage packages need $build_packages $test_packages
    build_and_test release
    ;;
  --all)
    stage packages need $build_packages $test_packages "${all[@]}"
    for preset in release tsan asan; do build_and_test "$preset"; done
    stage clang-tidy tidy
    stage models tests/model/run.sh
    stage fuzzers tests/fuzz/run.sh 6
    stage torture tests/torture.sh 30
    stage "torture of datagrams" tests/torture.sh 15 "$RANDOM" datagrams
    stage "torture of moves" tests/torture.sh 15 "$RANDOM" moves
    stage "torture of stores" tests/store_torture.sh 20
    stage arm64 tests/packaging/cross_test.sh arm64
    stage i386 tests/packaging/cross_test.sh i386
    stage "Debian 13" tests/packaging/debian_13_test.sh
    ;;
  --coverage)
    stage packages need $build_packages $test_packages gcovr
    build_and_test coverage
    stage coverage gcovr --root . --filter 'include/' --filter 'src/' \
      --object-directory build/coverage --exclude-throw-branches --fail-under-line 95 build/coverage
    ;;
  *)
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
    ;;
esac
