#!/bin/bash
# Builds kvec on a machine with an NVIDIA GPU and puts it through its paces there: every kernel test, the
# golden answers, compute-sanitizer, benchmarks. One table at the end, JSON beside it.
#
#   tests/gpu/run.sh [--build DIR] [--out DIR] [--skip-large]
#
# --build: a build folder that was carried here (preset cuda, target gpu_programs and the programs);
# without it everything is built. --out: where results go (build/gpu). --skip-large: no 8B model, which
# takes 16 GB of disk and of GPU memory. Needs a driver for CUDA 13 (580 or later). The last line of
# output is "N passed, N failed".
#
# THIS SCRIPT HAS NOT RUN ON A CARD YET: none could be had. What it builds was built, and its Python was
# run, on a machine without one.
set -euo pipefail
cd "$(dirname "$0")/../.."

build='' out=build/gpu large=yes
while (($# > 0)); do
  case "$1" in
    --build) build=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --skip-large) large=no && shift ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) echo "tests/gpu/run.sh: unknown option '$1'; known: --build, --out, --skip-large" >&2 && exit 2 ;;
  esac
done

passed=0 failed=0
finish() {
  local code=$?
  if ((code != 0 && failed == 0)); then failed=1; fi
  echo "$passed passed, $failed failed"
}
trap finish EXIT

# check NAME COMMAND...: counts as one test; its output goes to a file.
check() {
  local log=$out/$1.log
  if "${@:2}" >"$log" 2>&1; then
    passed=$((passed + 1)) && echo "ok      $1"
  else
    failed=$((failed + 1)) && echo "FAILED  $1, see $log" && tail -n 20 "$log" >&2
  fi
}

if ! nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; then
  echo "tests/gpu/run.sh: no GPU, or no driver (nvidia-smi)" >&2
  exit 1
fi
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit \
  --format=csv,noheader,nounits | head -n 1 >"$out/card.txt"

if [[ -z $build ]]; then
  deploy/local/install_dependencies.sh
  deploy/local/fetch_cuda.sh compiler
  for target in gpu_programs kvec kvec-coordinator kvec-worker; do
    deploy/local/build.sh --target "$target" cuda
  done
  build=build/cuda
fi
bin=$PWD/$build/bin

# 1. Every kernel against its reference. Tests of a machine without a GPU, or with an old one, make no sense
# here.
of_no_card=CudaDeviceCreateTest.SaysThatThereIsNoGpu:EightBitWeightTest.NeedsACardThatMultipliesThem
for program in "$bin"/gpu_*_test; do
  check "$(basename "$program")" "$program" "--gtest_filter=-$of_no_card"
done

# 2. The same under compute-sanitizer: out of bounds, races in shared memory, uninitialised reads, barriers.
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [[ -x $sanitizer ]]; then
  for program in "$bin"/gpu_*_test; do
    for tool in memcheck racecheck initcheck synccheck; do
      check "$(basename "$program").$tool" "$sanitizer" --tool "$tool" --error-exitcode 1 "$program" \
        "--gtest_filter=-$of_no_card"
    done
  done
else
  echo "tests/gpu/run.sh: no compute-sanitizer; it comes with the CUDA toolkit" >&2
fi

# 3. Real models end to end, against the float32 reference.
KVEC_SMOLLM2_GGUF=$(deploy/local/fetch_model.sh smollm2)
KVEC_GEMMA3_GGUF=$(deploy/local/fetch_model.sh gemma3)
export KVEC_SMOLLM2_GGUF KVEC_GEMMA3_GGUF KVEC_BIN=$bin
for model in smollm2 gemma3; do
  check "golden.$model" python3 tests/integration/golden_test.py "$model" auto cuda
done
# Over NCCL, a GPU for each worker.
if (($(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l) >= 2)); then
  for shape in 2x1 1x2; do
    check "golden.smollm2.$shape" python3 tests/integration/golden_test.py smollm2 auto cuda "$shape"
  done
fi

# 4. Kernels beside the card's ceilings.
"$bin/gpu_benchmark" --benchmark_repetitions=5 --benchmark_report_aggregates_only \
  --benchmark_out="$out/kernels.json" --benchmark_out_format=json >"$out/kernels.log"

# 5. An 8B model of random weights: 32k tokens, with and without K-VEC.
models=()
if [[ $large == yes ]]; then
  tests/gpu/make_random_model.py 8b "$out/random-8b"
  for policy in full kvec; do
    "$bin/kvec" bench --model "$out/random-8b" --device cuda --prompt-tokens 32000 --depth 0,32000 \
      --batch 1 --policy "$policy" --budget 1024 --runs 3 --json >"$out/model-$policy.jsonl"
    models+=("$out/model-$policy.jsonl")
  done
fi

tests/gpu/report.py --card "$out/card.txt" --kernels "$out/kernels.json" --out "$out/report.md" \
  --json "$out/report.json" "${models[@]}"
cat "$out/report.md"
((failed == 0))
