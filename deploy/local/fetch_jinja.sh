#!/bin/bash
# Fetches the sources of the Jinja engine that renders chat templates: llama.cpp's common/jinja (MIT),
# out of the PyPI source package of llama-cpp-python. They go to build/third_party/jinja
# (KVEC_THIRD_PARTY_DIR/jinja if that is set), where CMake compiles them, with jinja_bounds.patch, which
# bounds what a hostile template can do. A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

patch=$PWD/deploy/local/jinja_bounds.patch
state="$version, patch $(sha256sum <"$patch" | head -c 16)"

third_party=${KVEC_THIRD_PARTY_DIR:-$PWD/build/third_party}
target=$third_party/jinja
if [[ $(cat "$target/VERSION" 2>/dev/null) == "$state" ]]; then exit 0; fi

mkdir -p "$third_party"
work=$(mktemp -d "$third_party/.download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Downloading from PyPI: llama-cpp-python==$version (source, 77 MB)" >&2
echo "llama-cpp-python==$version --hash=sha256:$sha256" >"$work/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
  --require-hashes --requirement "$work/requirements.txt" --dest "$work" >&2

root=llama_cpp_python-$version/vendor/llama.cpp
mkdir "$work/sources"
tar --extract --gzip --file "$work/llama_cpp_python-$version.tar.gz" --directory "$work/sources" \
  --strip-components 3 --wildcards \
  "$root/LICENSE" "$root/common/jinja/*" "$root/common/unicode.*" \
  "$root/common/json.h" "$root/common/json.cpp"
# The one thing that json.cpp takes from ggml.h.
cat >"$work/sources/common/ggml.h" <<'HEADER'
#pragma once
#include <cstdlib>
#define GGML_ASSERT(condition) ((condition) ? (void)0 : std::abort())
HEADER
patch --quiet --strip 1 --directory "$work/sources" <"$patch"
echo "$state" >"$work/sources/VERSION"
rm -rf "$target"
mv "$work/sources" "$target"
