# shellcheck shell=bash
# To be sourced. need PACKAGE...: installs those Debian packages that are missing (as root).
# shellcheck disable=SC2034  # for scripts that source this
build_packages="g++ cmake ninja-build pkg-config libmemcached-dev libfmt-dev libssl-dev"
test_packages="memcached libgtest-dev libbenchmark-dev libsqlite3-dev sasl2-bin libsasl2-modules faketime
  postgresql libpqxx-dev libcli11-dev nlohmann-json3-dev zsh fish groff-base
  prometheus prometheus-cpp-dev curl doxygen graphviz git lintian mmdebstrap dpkg-dev locales openssl util-linux redis-server nutcracker iproute2 nftables"
# 1.77 or later; Debian 12 has 1.74 by the plain name.
# shellcheck disable=SC1091  # not a file of ours
if (source /etc/os-release && [ "${VERSION_CODENAME:-}" = bookworm ]); then
  test_packages+=" libboost1.81-dev"
else
  test_packages+=" libboost-dev"
fi

need() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
