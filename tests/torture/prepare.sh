# shellcheck shell=bash
# To be sourced by a script with its arguments SECONDS [SEED]: sets `seconds` and `seed`.
# prepare PROGRAM: installs what is needed and builds the program.
# shellcheck disable=SC2034  # for scripts that source this
seconds=${1:?usage: $(basename "$0") SECONDS [SEED]}
seed=${2:-$(($(od -An -N2 -tu2 /dev/urandom)))}
cd "$(dirname "$0")/.." || exit
source tests/support/need.sh

prepare() {
  # shellcheck disable=SC2086  # words
  need $build_packages $test_packages
  cmake --preset release >/dev/null
  cmake --build --preset release --target "$1" >/dev/null
}
