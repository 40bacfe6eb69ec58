#!/usr/bin/env bash
# Installs what is needed (as root, on Debian 12), builds everything and runs all tests.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ clang libclang-rt-14-dev cmake ninja-build pkg-config memcached libmemcached-dev
          libfmt-dev libssl-dev libgtest-dev libsqlite3-dev sasl2-bin libsasl2-modules)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

for preset in release clang asan tsan; do
  echo "== $preset"
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset"
  ctest --preset "$preset"
done
