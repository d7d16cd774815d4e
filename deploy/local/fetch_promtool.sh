#!/bin/bash
# fetch_promtool.sh: fetches promtool, which checks Prometheus' rules, out of Debian's package prometheus
# into build/third_party/prometheus, where this machine has none. Not by installing the package: that
# would start a Prometheus here. A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
third_party=${KVEC_THIRD_PARTY_DIR:-$PWD/build/third_party}
target=$third_party/prometheus
if command -v promtool >/dev/null || [[ -x $target/usr/bin/promtool ]]; then exit 0; fi
mkdir -p "$third_party"
work=$(mktemp -d "$third_party/.download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Downloading with apt: prometheus (19 MB)" >&2
(cd "$work" && apt-get -o APT::Sandbox::User=root download -qq prometheus >&2)
dpkg-deb --extract "$work"/prometheus_*.deb "$work/package"
rm -rf "$target"
mkdir -p "$target/usr/bin"
mv "$work/package/usr/bin/promtool" "$target/usr/bin/"
