#!/bin/bash
# build.sh [--tests | --target NAME] [PRESET]: installs what is missing and builds kvec into
# build/PRESET/bin (default: release). --tests: the tests too, not the programs only; --target: this
# target of CMake's only.
set -euo pipefail
cd "$(dirname "$0")/../.."

targets=(kvec kvec-coordinator kvec-worker)
if [[ ${1:-} == --tests ]]; then
  targets=(all)
  shift
elif [[ ${1:-} == --target ]]; then
  targets=("$2")
  shift 2
fi
preset=${1:-release}

deploy/local/install_dependencies.sh
if [[ -x deploy/local/fetch_jinja.sh ]]; then deploy/local/fetch_jinja.sh; fi
if [[ ${targets[0]} == all ]]; then deploy/local/fetch_cuda.sh headers; fi

# Another checkout shares the compiler cache, as does a container with the same compiler in another
# file: paths are relative to the checkout, the compiler is known by its content, and speaks one
# language.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content
unset LC_ALL LC_CTYPE LC_MESSAGES
export LANG=C.UTF-8
# A CUDA compiler that was fetched since is to be found.
if [[ ! -f build/$preset/build.ninja ||
  ${KVEC_THIRD_PARTY_DIR:-build/third_party}/cuda -nt build/$preset/build.ninja ]]; then
  cmake --preset "$preset" >&2
fi
cmake --build --preset "$preset" --parallel "$(nproc)" --target "${targets[@]}" >&2
