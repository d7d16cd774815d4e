#!/bin/bash
# install_dependencies.sh [PACKAGE …]: installs the Debian 12 packages that kvec is built from, and
# those named. Does nothing, and needs no root, when all are there.
set -euo pipefail

packages=(
  # to build
  cmake g++ git ninja-build ccache patch pkg-config
  # libraries
  libabsl-dev libcli11-dev libdnnl-dev libgoogle-glog-dev libgrpc++-dev libhwy-dev libicu-dev
  libpcre2-dev libprotobuf-dev libssl-dev libucx-dev libzip-dev nlohmann-json3-dev prometheus-cpp-dev
  protobuf-compiler protobuf-compiler-grpc zlib1g-dev
  # to test
  libbenchmark-dev libgmock-dev libgtest-dev iproute2 openssl
  # to fetch models
  ca-certificates python3 python3-pip python3-venv unzip
  "$@"
)

# dpkg-query names unknown packages on stderr and fails; installed ones have status "ii".
installed=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "ii $package" <<<"$installed" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

echo "Installing with apt: ${missing[*]}" >&2
as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "error: not root and no sudo; have an administrator run:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
