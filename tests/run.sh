#!/bin/bash
# Installs what is missing, builds everything and runs every test: unit and integration.
#
#   tests/run.sh [--sanitizers] [--fuzz] [--cuda] [--images]
#
# --sanitizers: the unit tests once more under AddressSanitizer with UBSan, and under
# ThreadSanitizer. --fuzz: 10,000 byte flips of a real model's header, and every fuzz target for
# KVEC_FUZZ_SECONDS (60; see tests/fuzz/run.sh). --cuda: kernels/cuda and the worker are compiled for
# every GPU architecture (the compiler comes from PyPI where there is none), and the kernels' tests run
# on the host simulator. --images: deploy/docker's images are built without a daemon, and answer a prompt
# together; wants root. The last line of output is "N passed, N failed", summed over all runs.
set -euo pipefail
cd "$(dirname "$0")/.."

sanitizers=no fuzz=no cuda=no images=no
for option in "$@"; do
  case "$option" in
    --sanitizers) sanitizers=yes ;;
    --fuzz) fuzz=yes ;;
    --cuda) cuda=yes ;;
    --images) images=yes ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *)
      echo "tests/run.sh: unknown option '$option'; known: --sanitizers, --fuzz, --cuda, --images" >&2
      exit 2
      ;;
  esac
done

passed=0 failed=0
# Printed on every way out: whoever reads only the last line learns of a broken build too.
finish() {
  local code=$?
  if ((code != 0 && failed == 0)); then failed=1; fi
  echo "$passed passed, $failed failed"
}
trap finish EXIT

# run_tests PRESET [ctest arguments]
run_tests() {
  local report=$PWD/build/$1/tests.xml counts
  ctest --test-dir "build/$1" --parallel 2 --output-on-failure --no-tests=error \
    --output-junit "$report" "${@:2}" || true
  # A test that was skipped or could not run has not passed.
  counts=$(python3 - "$report" <<'PYTHON'
import sys, xml.etree.ElementTree

suite = xml.etree.ElementTree.parse(sys.argv[1]).getroot()
states = [case.get("status") for case in suite.iter("testcase")]
print(states.count("run"), states.count("fail"), len(states) - states.count("run") - states.count("fail"))
PYTHON
  )
  read -r run_passed run_failed run_skipped <<<"$counts"
  passed=$((passed + run_passed))
  failed=$((failed + run_failed))
  if ((run_skipped > 0)); then echo "$run_skipped tests of $1 were skipped" >&2; fi
}

# Each target counts as a test.
run_fuzz_targets() {
  local last
  last=$(tests/fuzz/run.sh | tee >(cat >&2) | tail -n 1) || true
  if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    failed=$((failed + 1))
  fi
}

deploy/local/build.sh --tests release
KVEC_SMOLLM2_GGUF=$(deploy/local/fetch_model.sh smollm2)
KVEC_GEMMA3_GGUF=$(deploy/local/fetch_model.sh gemma3)
export KVEC_SMOLLM2_GGUF KVEC_GEMMA3_GGUF

# The evaluation harness, and with it NumPy, for the oracles of eviction; what checks manifests.
python3 -m venv build/venv
build/venv/bin/python -m pip install --quiet --disable-pip-version-check 'tests/longcontext[test]' \
  --requirement tests/deploy/requirements.txt
# The gateway has no build for some machines; its test is skipped there, and says so.
build/venv/bin/python -m pip install --quiet --disable-pip-version-check \
  --requirement tests/integration/requirements.txt || echo "tests/run.sh: no gateway" >&2
export KVEC_TEST_PYTHON=$PWD/build/venv/bin/python
# Without it the test of Prometheus' rules is skipped, and says so.
deploy/local/fetch_promtool.sh || echo "tests/run.sh: no promtool" >&2

run_tests release
if [[ $sanitizers == yes ]]; then
  # UCX's memory hooks run at a thread's very end, where ThreadSanitizer crashes in their locks.
  export UCX_MEM_MMAP_HOOK_MODE=none
  for preset in asan tsan; do
    deploy/local/build.sh --tests "$preset"
    run_tests "$preset" --label-exclude integration
  done
fi
if [[ $fuzz == yes ]]; then
  KVEC_HEADER_FLIPS=10000 run_tests release --tests-regex HeaderFlips
  run_fuzz_targets
fi
if [[ $cuda == yes ]]; then
  deploy/local/fetch_cuda.sh compiler
  for target in kernels/cuda/all kvec-worker gpu_programs tests/cusim/all tests/kernels/cuda/all \
    tests/worker/comm/nccl/all; do
    deploy/local/build.sh --target "$target" cuda
  done
  run_tests cuda/tests/cusim
  run_tests cuda/tests/kernels/cuda
  run_tests cuda/tests/worker/comm/nccl
fi
if [[ $images == yes ]]; then KVEC_BUILD_IMAGES=yes run_tests release --tests-regex '^deploy.images$'; fi
((failed == 0))
