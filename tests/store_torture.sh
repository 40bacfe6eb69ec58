#!/usr/bin/env bash
# store_torture.sh SECONDS [SEED]: writers in front of PostgreSQL and SQLite, while memcached, the
# database and writers are killed (tests/torture/store_torture.cpp). Builds what it needs.
set -euo pipefail
seconds=${1:?usage: store_torture.sh SECONDS [SEED]}
seed=${2:-$(($(od -An -N2 -tu2 /dev/urandom)))}
cd "$(dirname "$0")/.."
source tests/need.sh
# shellcheck disable=SC2086  # words
need $build_packages $test_packages
cmake --preset release >/dev/null
cmake --build --preset release --target store_torture >/dev/null
build/release/tests/store_torture "$seconds" "$seed"
