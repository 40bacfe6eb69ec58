#!/usr/bin/env bash
# store_torture.sh SECONDS [SEED]: writers in front of PostgreSQL and SQLite, while memcached, the
# database and writers are killed (tests/torture/store_torture.cpp). Builds what it needs.
set -euo pipefail
# shellcheck source=tests/torture/prepare.sh
source "$(dirname "$0")/torture/prepare.sh"
prepare store_torture
build/release/tests/store_torture "$seconds" "$seed"
