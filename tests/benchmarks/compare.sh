#!/usr/bin/env bash
# compare.sh COMMIT [ROUNDS [MILLISECONDS]]: the contended benchmark of this library and of an
# earlier commit's, in turn; prints both and their ratio. HOLD_US and SIDES as for the benchmark
# itself. Needs what run.sh installs, jq, and the commit.
set -euo pipefail
commit=${1:?usage: compare.sh COMMIT [ROUNDS [MILLISECONDS]]}
rounds=${2:-3}
milliseconds=${3:-500}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/before"
git archive "$commit" | tar -x -C "$work/before"
build() {
  cmake -S "$1" -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMEMCACHEDLOCK_BUILD_BENCHMARKS=ON \
    -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF -DMEMCACHEDLOCK_BUILD_CLI=OFF >/dev/null
  cmake --build "$2" --target contended_benchmark >/dev/null
}
build "$work/before" "$work/build"
build . build/benchmarks
export SIDES=${SIDES:-memcachedlock memcachedlock-fair memcachedlock-untold}
for round in $(seq "$rounds"); do
  "$work/build/tests/benchmarks/contended_benchmark" "$work/before.$round" 1 "$milliseconds" >/dev/null
  build/benchmarks/tests/benchmarks/contended_benchmark "$work/after.$round" 1 "$milliseconds" >/dev/null
done
# Medians of the rounds.
medians() {
  jq -s 'def median: sort | .[length / 2 | floor];
    flatten | group_by([.kind, .actors, .hold_us, .side]) | map({
      key: "\(.[0].kind) \(.[0].actors) \(.[0].hold_us) \(.[0].side)",
      rate: (map(.per_second) | median), p50: (map(.handover_p50_us) | median),
      p99: (map(.handover_p99_us) | median), commands: (map(.commands) | median),
      jain: (map(.jain) | median), longest: (map(.max_wait) | median)})' "$@"
}
show() {
  jq -r --arg when "$1" \
    '.[] | [$when, .key, .rate, .p50, .p99, .commands, .jain, .longest] | @tsv'
}
{
  printf 'when\twhat, actors, hold us, side\tacq./s\tp50 us\tp99 us\tcommands\tJain\tlongest\n'
  medians "$work"/before.* | show "$(git rev-parse --short "$commit")"
  medians "$work"/after.* | show now
} | awk -F'\t' '{printf "%-8s %-42s", $1, $2; for (i = 3; i <= NF; ++i) printf " %9.9s", $i; print ""}'
