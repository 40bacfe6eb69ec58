#!/usr/bin/env bash
# Installs what is needed (as root, on Debian 12), builds, starts a private memcached and runs the
# main job on it: several processes that write the same objects, without and with a lock.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ cmake ninja-build pkg-config memcached libmemcached-dev libfmt-dev libssl-dev
          libsqlite3-dev)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DMEMCACHEDLOCK_BUILD_TESTS=OFF >/dev/null
cmake --build build/quickstart

directory=$(mktemp -d)
memcached -u root -U 0 -p 0 -s "$directory/memcached.sock" &
server=$!
trap 'kill $server; wait $server 2>/dev/null || true; rm -rf "$directory"' EXIT
for _ in $(seq 500); do
  [ -S "$directory/memcached.sock" ] && break
  sleep 0.01
done

MEMCACHEDLOCK_SERVERS="$directory/memcached.sock" build/quickstart/examples/quickstart "$directory"
