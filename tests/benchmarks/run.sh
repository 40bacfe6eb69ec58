#!/usr/bin/env bash
# run.sh [ROUNDS [MILLISECONDS]]: installs what is needed (as root, on Debian 12), builds in release
# mode, starts the peers privately and runs all benchmarks. Writes JSON to build/benchmarks, and the
# charts of the README beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/support/need.sh
source tests/benchmarks/chart.sh

# shellcheck disable=SC2086  # words
need $build_packages memcached libgtest-dev libbenchmark-dev curl redis-server libhiredis-dev postgresql \
  libpqxx-dev etcd-server libcurl4-openssl-dev nlohmann-json3-dev gnuplot-nox jq
cmake -S . -B build/benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DMEMCACHEDLOCK_BUILD_BENCHMARKS=ON -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF >/dev/null
cmake --build build/benchmarks --target uncontended_benchmark contended_benchmark scale_benchmark

work=$(mktemp -d)
pids=()
finish() {
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$work"
}
trap finish EXIT
chmod 755 "$work"
eventually() {
  local tries
  for tries in $(seq 100); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "$* failed for too long ($tries tries)" >&2
  return 1
}

redis-server --port 0 --unixsocket "$work/redis" --save '' --appendonly no >"$work/redis.log" &
pids+=($!)
export REDIS_SOCKET=$work/redis

# PostgreSQL refuses to run as root.
bin=$(pg_config --bindir 2>/dev/null || echo /usr/lib/postgresql/15/bin)
as=()
[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
mkdir "$work/postgres"
[ "$(id -u)" -ne 0 ] || chown postgres "$work/postgres"
"${as[@]}" "$bin/initdb" -D "$work/postgres/data" -A trust -U benchmark >"$work/initdb.log"
"${as[@]}" "$bin/postgres" -D "$work/postgres/data" -k "$work/postgres" -c listen_addresses= \
  >"$work/postgres.log" 2>&1 &
pids+=($!)
export POSTGRES="host=$work/postgres user=benchmark dbname=postgres"

# etcd has no socket of the file system for clients: two free ports, which are asked for once more
# where another has taken one meanwhile.
free_port() {
  perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}
start_etcd() {
  ETCD=http://127.0.0.1:$(free_port)
  local peer
  peer=http://127.0.0.1:$(free_port)
  etcd --name benchmark --data-dir "$work/etcd" --listen-client-urls "$ETCD" \
    --advertise-client-urls "$ETCD" --listen-peer-urls "$peer" \
    --initial-advertise-peer-urls "$peer" --initial-cluster "benchmark=$peer" \
    >"$work/etcd.log" 2>&1 &
  pids+=($!)
  export ETCD
  eventually curl -sf "$ETCD/health"
}
start_etcd || start_etcd

eventually redis-cli -s "$work/redis" ping
eventually "$bin/pg_isready" -h "$work/postgres"

build/benchmarks/tests/benchmarks/uncontended_benchmark \
  --benchmark_out=build/benchmarks/uncontended.json
build/benchmarks/tests/benchmarks/scale_benchmark build/benchmarks/scale.json
contended=build/benchmarks/contended.json
build/benchmarks/tests/benchmarks/contended_benchmark "$contended" "$@"

# chart_of NAME KIND FIGURE TITLE: at a hold of 1 ms.
chart_of() {
  chart "$contended" "tests/benchmarks/$1.svg" \
    ".kind == \"$2\" and .hold_us == 1000 and .actors > 1" .actors "$3" "$2" "$4"
}
chart_of rate processes per_second "acquisitions a second, one key, held for 1 ms"
chart_of handover processes handover_p50_us "us from a release to the next holder, median, one key, held for 1 ms"
