#!/usr/bin/env bash
# with_memcached.sh COMMAND...: runs it with a private memcached, whose socket is in
# MEMCACHEDLOCK_SERVERS, and an empty directory, WORK; both are gone afterwards.
set -euo pipefail
WORK=$(mktemp -d)
export WORK MEMCACHEDLOCK_SERVERS="$WORK/memcached.sock"
memcached -u root -U 0 -p 0 -s "$MEMCACHEDLOCK_SERVERS" &
server=$!
trap 'kill $server; wait $server 2>/dev/null || true; rm -rf "$WORK"' EXIT
for _ in $(seq 1000); do
  [ -S "$MEMCACHEDLOCK_SERVERS" ] && break
  sleep 0.01
done
"$@"
