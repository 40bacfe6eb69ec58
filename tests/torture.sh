#!/usr/bin/env bash
# torture.sh SECONDS [SEED [datagrams|moves]]: workers, a nemesis and the check of what they saw (tests/torture).
# Builds what it needs. A failure can be tried again with the seed that is printed, though not its
# timing; the histories of the workers are kept then.
set -euo pipefail
# shellcheck source=tests/torture/prepare.sh
source "$(dirname "$0")/torture/prepare.sh"
prepare torture
histories=$(mktemp -d)
if build/release/tests/torture "$seconds" "$seed" "$histories" ${3:+"$3"}; then
  rm -rf "$histories"
else
  echo "the histories are in $histories"
  exit 1
fi
