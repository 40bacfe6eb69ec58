#!/usr/bin/env bash
# debian_13_test.sh: makes a Debian 13 with what the tests need, and has them run in it with its own
# compiler and servers (run.sh). Needs root.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=/dev/null
(source /etc/os-release && [ "${VERSION_CODENAME:-}" = trixie ]) &&
  { echo "this is Debian 13: run.sh has run in it"; exit 0; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mmdebstrap --quiet --variant=apt trixie "$root" >/dev/null
# A repository, as the packaging tests want one, with what is not committed yet.
git clone --quiet "$source" "$root/source"
git -C "$source" ls-files -z --cached --others --exclude-standard |
  tar -C "$source" --null --ignore-failed-read -T - -c | tar -C "$root/source" -x
cp /etc/resolv.conf "$root/etc/"

# The mounts are gone with their namespace.
export root
unshare --mount --propagation private bash -c '
  mount --bind "$root" "$root"  # a mount point, without which nothing below can unshare --mount
  mount -t proc proc "$root/proc"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  mount --bind "$root/dev/pts/ptmx" "$root/dev/ptmx"
  mount -t tmpfs tmpfs "$root/dev/shm"
  exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    /source/tests/run.sh'
