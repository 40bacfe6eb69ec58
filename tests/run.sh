#!/usr/bin/env bash
# Installs what is needed (as root, on Debian 12), builds everything and runs all tests: with g++,
# with clang++, and under the address, undefined-behaviour and thread sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/need.sh

need g++ clang libclang-rt-14-dev cmake ninja-build pkg-config memcached libmemcached-dev \
  libfmt-dev libssl-dev libgtest-dev libbenchmark-dev libsqlite3-dev sasl2-bin libsasl2-modules

for preset in release clang asan tsan; do
  echo "== $preset"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  ctest --preset "$preset"
done
