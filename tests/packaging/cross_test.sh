#!/usr/bin/env bash
# cross_test.sh arm64|i386 [RELEASE]: builds the library, the program and some of the tests for
# another kind of machine, with the packages of a Debian of that kind, and runs them by qemu-user
# against this machine's own memcached.
set -euo pipefail
architecture=$1
source=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=/dev/null
release=${2:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
case $architecture in
  arm64) machine=aarch64 ;;
  i386) machine=i686 ;;
  *) echo "no such machine: $architecture" >&2; exit 2 ;;
esac
emulator=qemu-${machine/i686/i386}
triplet=${machine/i686/i386}-linux-gnu  # where Debian puts its libraries
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Only unpacked: nothing of that machine has to run for it.
mmdebstrap --quiet --variant=extract --architectures="$architecture" \
  --include=libmemcached-dev,libfmt-dev,libssl-dev,libgtest-dev,libcli11-dev,nlohmann-json3-dev \
  "$release" "$work/root" http://deb.debian.org/debian >/dev/null

cat >"$work/toolchain.cmake" <<END
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR $machine)
set(CMAKE_CXX_COMPILER $machine-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE $triplet)
set(CMAKE_FIND_ROOT_PATH $work/root)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_SYSROOT $work/root)
set(CMAKE_CROSSCOMPILING_EMULATOR $emulator;-L;$work/root)
END
export PKG_CONFIG_SYSROOT_DIR=$work/root
export PKG_CONFIG_LIBDIR=$work/root/usr/lib/$triplet/pkgconfig:$work/root/usr/share/pkgconfig
cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$work/toolchain.cmake" \
  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS="-O1 -g0" -DMEMCACHEDLOCK_WERROR=ON \
  -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF >"$work/log" || { cat "$work/log"; exit 1; }
tests=(unit_test lock_test rlock_test)
cmake --build "$work/build" -- memcachedlock_cli "${tests[@]}" >"$work/log" ||
  { cat "$work/log"; exit 1; }

run() { "$emulator" -L "$work/root" "$@"; }
for test in "${tests[@]}"; do
  # qemu 7.2 can't fork a process that has threads.
  run "$work/build/tests/$test" --gtest_brief=1 --gtest_filter='-*Process*:*ForkedChild*'
done

# Processes: the program, several at a time, with a memcached of their own.
cat >"$work/count.sh" <<'END'
set -eu
echo 0 >"$WORK/count"
for _ in 1 2 3 4; do
  (for _ in 1 2 3 4 5; do
    "$@" run --wait 60s job -- sh -c 'n=$(cat "$WORK/count"); sleep 0.02; echo $((n + 1)) >"$WORK/count"'
  done) &
done
wait
[ "$(cat "$WORK/count")" -eq 20 ]
END
"$source/tests/support/with_memcached.sh" sh "$work/count.sh" "$emulator" -L "$work/root" \
  "$work/build/src/cli/memcachedlock"
echo "$architecture: the library, ${tests[*]} and the program work"
