#!/usr/bin/env bash
# Installs what is needed (as root, on Debian 12), builds, starts a private memcached and runs the
# main job on it: several processes that write the same objects, without and with a lock.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/support/need.sh

# shellcheck disable=SC2086  # words
need $build_packages memcached libsqlite3-dev
cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DMEMCACHEDLOCK_BUILD_TESTS=OFF >/dev/null
cmake --build build/quickstart --target example_quickstart
# shellcheck disable=SC2016  # expanded inside
tests/support/with_memcached.sh sh -c 'build/quickstart/examples/quickstart "$WORK"'
