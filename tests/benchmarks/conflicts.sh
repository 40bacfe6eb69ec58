#!/usr/bin/env bash
# conflicts.sh [ROUNDS [MILLISECONDS]]: installs what is needed (as root, on Debian 12), builds in
# release mode and runs conflicts_benchmark, with a private memcached and PostgreSQL that it starts
# itself. Writes JSON to build/benchmarks, and the charts of the README beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/support/need.sh
source tests/benchmarks/chart.sh

# shellcheck disable=SC2086  # words
need $build_packages memcached libgtest-dev libbenchmark-dev libsqlite3-dev postgresql libpqxx-dev \
  gnuplot-nox jq
cmake -S . -B build/benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DMEMCACHEDLOCK_BUILD_BENCHMARKS=ON -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF >/dev/null
cmake --build build/benchmarks --target conflicts_benchmark

json=build/benchmarks/conflicts.json
build/benchmarks/tests/benchmarks/conflicts_benchmark "$json" "$@"
# chart_of NAME FIGURE TITLE
chart_of() {
  chart "$json" "tests/benchmarks/$1.svg" \
    '.store == "postgres" and .rows == 1 and .compute_ms == 5' .writers "$2" writers "$3"
}
chart_of conflicts_rate commits_per_second "commits a second, PostgreSQL, one row, 5 ms of computing"
chart_of conflicts_waste computations_per_commit "computations a commit, PostgreSQL, one row, 5 ms"
chart_of conflicts_p99 p99_ms "ms until a write is committed, p99, PostgreSQL, one row, 5 ms"
