#!/usr/bin/env bash
# Installs what is needed (as root, on Debian 12), builds in release mode and runs the benchmarks.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(g++ cmake ninja-build pkg-config memcached libmemcached-dev libfmt-dev libssl-dev
          libgtest-dev libbenchmark-dev)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
cmake -S . -B build/benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DMEMCACHEDLOCK_BUILD_BENCHMARKS=ON -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF >/dev/null
cmake --build build/benchmarks --target uncontended_benchmark
build/benchmarks/tests/benchmarks/uncontended_benchmark
