#!/usr/bin/env bash
# run.sh [--full]: checks the models; the protocol as it is must pass, each broken variant must fail.
# --full takes minutes and 10 GB for more attempts and faults. Needs spin and cc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
model=lock.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check FLAGS...: prints spin's verdict; a search that is not exhaustive is none.
check() {
  local live=()
  [[ " $* " == *" -DLIVE "* ]] && live=(-a -f)
  spin -a "$@" "$here/$model" >spin.log 2>&1 || return 2
  cc -O2 -DMEMLIM=12000 -DVECTORSZ=2048 -DCOLLAPSE \
    "$([ ${#live[@]} -gt 0 ] && echo -DNFAIR=4 || echo -DSAFETY)" -w -o pan pan.c
  ./pan -m3000000 "${live[@]}" >pan.log 2>&1 || true
  if grep -qE 'max search depth too small|out of memory|aborted \(memory' pan.log; then return 2; fi
  grep -oE 'errors: [0-9]+' pan.log | grep -oE '[0-9]+'
}

# As many at a time as there are cores; with --full only one has room.
most=$([ "${1:-}" = --full ] && echo 1 || nproc)
number=0

# expect right|wrong NAME FLAGS...: in the background, in a folder of its own, which finish() reads.
expect() {
  number=$((number + 1))
  while [ "$(jobs -rp | wc -l)" -ge "$most" ]; do wait -n || true; done
  mkdir "$work/$number"
  (cd "$work/$number" && judge "$@" >verdict 2>&1 && touch well) &
}

judge() {
  local wanted=$1 name=$2 errors states
  shift 2
  errors=$(check "$@") || { cat spin.log pan.log; return 2; }
  states=$(grep -oE '^ *[0-9.e+]+ states, stored' pan.log | grep -oE '[0-9.e+]+' | head -1)
  if { [ "$wanted" = right ] && [ "$errors" -eq 0 ]; } ||
    { [ "$wanted" = wrong ] && [ "$errors" -gt 0 ]; }; then
    printf '%-44s %s, as it must (%s states)\n' "$name" \
      "$([ "$errors" -eq 0 ] && echo passes || echo fails)" "$states"
  else
    printf '%-44s %s errors: NOT as it must\n' "$name" "$errors"
    return 1
  fi
}

# Prints the verdicts in order; fails unless all are as they must be.
finish() {
  local at status=0
  wait
  for at in $(seq "$number"); do
    cat "$work/$at/verdict"
    [ -e "$work/$at/well" ] || status=1
  done
  return $status
}

expect right "2 clients, 2 attempts, 1 fault" -DFAULTS=1
expect right "2 clients, 1 attempt, 2 faults" -DATTEMPTS=1
expect right "3 clients, 1 attempt, no fault" -DCLIENTS=3 -DATTEMPTS=1 -DFAULTS=0
expect right "2 clients, 1 attempt, 2 faults with stops" -DSTOPS -DATTEMPTS=1
if [ "${1:-}" = --full ]; then
  expect right "2 clients, 2 attempts, 2 faults"
  expect right "3 clients, 1 attempt, 1 fault" -DCLIENTS=3 -DATTEMPTS=1 -DFAULTS=1
fi
expect right "everybody gets a turn, 2 clients, 2 faults" -DLIVE
for variant in PLAIN_DELETE GET_THEN_ADD SHORT_TTL FROM_REPLY NO_GUARD NO_CHECK NO_EPOCH STALE_CAS \
  NO_FENCING; do
  expect wrong "$variant" -D$variant
done
expect wrong "RELATIVE_TTL" -DSTOPS -DRELATIVE_TTL -DFAULTS=1
expect wrong "NO_CLEANUP" -DLIVE -DNO_CLEANUP

model=log.pml
small="-DRENEWALS=0 -DREWRITES=0"
three="-DCLIENTS=3 -DFAULTS=0 -DLEASE=3 -DGRACE=2"
twice="-DATTEMPTS=2 -DFAULTS=0"
expect right "log: 2 clients, 1 fault" -DFAULTS=1
# shellcheck disable=SC2086  # several flags each
{
  expect right "log: 2 clients, 2 attempts" $twice -DREWRITES=0
  expect right "log: a restart" -DRESTARTS
  expect right "log: waiters have an END too" -DGHOSTS_GO
  expect right "log: everybody gets in" -DLIVE -DFAULTS=1 $small -DLEASE=3 -DGRACE=2
  if [ "${1:-}" = --full ]; then
    expect right "log: 2 clients, 2 faults" -DFAULTS=2
    expect right "log: a reader and a writer" -DM0=S
    expect right "log: 3 clients" $three $small
  fi
  expect wrong "log: END_BACK" -DEND_BACK -DRENEWALS=2
  for variant in ENTRY_TOKEN BEYOND_EXPIRY; do expect wrong "log: $variant" -D$variant -DFAULTS=0; done
  for variant in FROM_MESSAGE MINUS_FOR_BANG FORGET_COUNT GIVEN_UP ALL_PLUS ALL_ASK BELIEVE_END; do
    expect wrong "log: $variant" -D$variant $twice
  done
  expect wrong "log: ANY_TOKEN" -DANY_TOKEN $twice $small
  expect wrong "log: OTHER_LINE" -DOTHER_LINE -DRESTARTS
  expect wrong "log: SEEN_FROM_SENT" -DSEEN_FROM_SENT $three $small
  expect wrong "log: NO_LOOK" -DNO_LOOK -DLIVE -DFAULTS=0 -DLEASE=4 -DGRACE=3
}

model=places.pml
expect right "places: 2 clients, a move that may stop" -DCLIENTS=2
for variant in NO_WAIT READ_FIRST EXTEND_ALONE TOKEN_FROM_O NO_ITEM NO_PLACE; do
  expect wrong "places: $variant" -DCLIENTS=2 -D$variant
done

# Too many states for the protocol as it is.
model=servers.pml
for variant in NO_LOOK NO_FLOOR; do  # the others are in places.pml
  expect wrong "servers: $variant" -D$variant
done
finish
