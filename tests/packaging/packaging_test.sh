#!/usr/bin/env bash
# packaging_test.sh SOURCE COMPILER static|shared: installs the library into an empty prefix and
# builds a consumer against it with find_package and pkg-config; static: with add_subdirectory and
# FetchContent too.
set -euo pipefail
source=$1 compiler=$2 kind=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Static is what is built where nothing is said.
wanted=()
[ "$kind" = static ] || wanted=(-DBUILD_SHARED_LIBS=ON)

# A unity build takes less than half of the time, and some services are built so.
configure() {
  cmake -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_UNITY_BUILD=ON "$@" >/dev/null
}

configure -S "$source" -B "$work/build" "${wanted[@]}" \
  -DCMAKE_INSTALL_PREFIX="$work/prefix" -DMEMCACHEDLOCK_BUILD_TESTS=OFF \
  -DMEMCACHEDLOCK_BUILD_EXAMPLES=OFF -DMEMCACHEDLOCK_BUILD_CLI=OFF
cmake --build "$work/build" >/dev/null
cmake --install "$work/build" >/dev/null

echo "== find_package"
configure -S "$source/tests/packaging/consumer" -B "$work/found" -DCMAKE_PREFIX_PATH="$work/prefix"
cmake --build "$work/found" >/dev/null
"$work/found/consumer"

echo "== pkg-config"
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name memcachedlock.pc)")
export PKG_CONFIG_PATH
static_flag=$([ "$kind" = static ] && echo --static || true)
# shellcheck disable=SC2046  # flags are words
"$compiler" -std=c++20 "$source/tests/packaging/consumer/main.cpp" -o "$work/by_pkg_config" \
  $(pkg-config $static_flag --cflags --libs memcachedlock)
LD_LIBRARY_PATH=$(pkg-config --variable=libdir memcachedlock) "$work/by_pkg_config"

if [ "$kind" = shared ]; then
  [ -z "$(pkg-config --print-requires-private memcachedlock)" ] || { echo "needs more"; exit 1; }
  library=$(find "$work/prefix" -name 'libmemcachedlock.so.1')
  [ -n "$library" ] || { echo "no SOVERSION"; exit 1; }
  echo "== exported symbols are ours alone"
  if nm -DC --defined-only "$library" | awk '$2 ~ /^[TDB]$/' | grep -v memcachedlock::; then
    exit 1
  fi
else
  echo "== add_subdirectory"
  configure -S "$source/tests/packaging/consumer" -B "$work/below" -DMEMCACHEDLOCK_SOURCE="$source"
  cmake --build "$work/below" >/dev/null
  "$work/below/consumer"

  echo "== FetchContent, where only the library's own packages are there"
  not_there=()
  for package in GTest CLI11 nlohmann_json SQLite3 Boost prometheus-cpp benchmark; do
    not_there+=("-DCMAKE_DISABLE_FIND_PACKAGE_$package=ON")
  done
  # What is built then is what is built below add_subdirectory.
  configure -S "$source/tests/packaging/consumer" -B "$work/fetched" -DMEMCACHEDLOCK_REPOSITORY="$source" \
    "${not_there[@]}"
fi
