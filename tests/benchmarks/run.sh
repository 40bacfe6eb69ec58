#!/usr/bin/env bash
# Installs what is needed (as root, on Debian 12), builds in release mode and runs the benchmarks.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/need.sh

# shellcheck disable=SC2086  # words
need $build_packages memcached libgtest-dev libbenchmark-dev
cmake -S . -B build/benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DMEMCACHEDLOCK_BUILD_BENCHMARKS=ON -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF >/dev/null
cmake --build build/benchmarks --target uncontended_benchmark
build/benchmarks/tests/benchmarks/uncontended_benchmark
