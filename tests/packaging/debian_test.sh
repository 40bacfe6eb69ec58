#!/usr/bin/env bash
# debian_test.sh SOURCE: makes the .deb packages, asks lintian about them, compares the library's
# symbols with those that are promised, and installs them in a Debian of their own, where a consumer
# builds and the program runs a command under a lock. Needs root; 77: no Debian can be made here.
set -euo pipefail
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
  -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_CXX_FLAGS="-g0 -fstack-protector-strong" \
  -DCMAKE_UNITY_BUILD=ON -DMEMCACHEDLOCK_BUILD_TESTS=OFF -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF >/dev/null
cmake --build "$work/build" >/dev/null
(cd "$work/build" && cpack -B "$work/packages" >/dev/null)
packages=("$work"/packages/*.deb)
[ ${#packages[@]} -eq 3 ] || { echo "not three packages: ${packages[*]}"; exit 1; }

echo "== lintian"
lintian --allow-root --fail-on error "${packages[@]}"

echo "== symbols"
mkdir "$work/library"
dpkg-deb -x "$work"/packages/libmemcachedlock1_*.deb "$work/library"
nm -DC --defined-only "$(find "$work/library" -name 'libmemcachedlock.so.1.*')" | cut -d' ' -f3- |
  grep -E '^((typeinfo|typeinfo name|vtable) for )?memcachedlock::' | LC_ALL=C sort -u >"$work/symbols"
# One that has gone breaks programs: a new SOVERSION. One that has come belongs into the list.
# Where `long` has 32 bits some have other names.
[ "$(getconf LONG_BIT)" -ne 64 ] ||
  diff -u "$source/cmake/libmemcachedlock.symbols" "$work/symbols"

echo "== a Debian of its own"
release=$(. /etc/os-release && echo "$VERSION_CODENAME")  # the packages' dependencies are its
needed=$(for package in "${packages[@]}"; do dpkg-deb -f "$package" Depends; done |
  tr ',' '\n' | sed 's/^ *//; s/ .*//' | grep -v memcachedlock | sort -u | paste -sd,)
mmdebstrap --quiet --variant=apt --include="g++,cmake,make,pkg-config,memcached,$needed" \
  "$release" "$work/root" >/dev/null || { echo "skipped: no Debian can be made here"; exit 77; }
cp "${packages[@]}" "$work/root/tmp"
cp -r "$source/tests/packaging/consumer" "$work/root/tmp"
cat >"$work/root/tmp/try.sh" <<'EOF'
set -eu
cd /tmp
dpkg -i ./*.deb >/dev/null
cmake -S consumer -B build >/dev/null
cmake --build build >/dev/null
build/consumer
g++ -std=c++20 consumer/main.cpp -o by_pkg_config $(pkg-config --cflags --libs memcachedlock)
./by_pkg_config
memcached -u nobody -U 0 -p 0 -s /tmp/memcached.sock &
while [ ! -S /tmp/memcached.sock ]; do sleep 0.01; done
export MEMCACHEDLOCK_SERVERS=/tmp/memcached.sock
memcachedlock run job -- memcachedlock inspect job
kill $!
wait
test -s /usr/share/man/man1/memcachedlock.1.gz
EOF
# mmdebstrap's root has no /proc; nothing here needs it.
chroot "$work/root" /bin/sh /tmp/try.sh
