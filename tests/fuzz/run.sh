#!/bin/bash
# Builds the fuzz targets with clang, libFuzzer, AddressSanitizer and UBSan, and runs each of them for
# a while, as many at a time as there are processors.
#
#   tests/fuzz/run.sh [--seconds N] [TARGET …]
#
# --seconds: time of each target (KVEC_FUZZ_SECONDS, else 60). TARGET: gguf, step … (default: all).
# What is found worth keeping stays in build/fuzz/corpus for the next run. A crash, a leak, an input
# that takes longer than a minute or more than 2 GiB fails the run, and its file is named. Exit code: 0
# no finding, 1 findings or no build, 2 wrong usage. The last line is "N passed, N failed".
set -euo pipefail
cd "$(dirname "$0")/../.."

fail_usage() { echo "tests/fuzz/run.sh: $1" >&2 && exit 2; }

seconds=${KVEC_FUZZ_SECONDS:-60}
targets=()
while (($# > 0)); do
  case "$1" in
    --seconds) seconds=${2:-} && shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0" && exit 0 ;;
    -*) fail_usage "unknown option '$1'; --help lists them" ;;
    *) [[ -f tests/fuzz/$1_fuzz.cc ]] || fail_usage "no target '$1'"; targets+=("$1") ;;
  esac
  shift || fail_usage "--seconds wants a value"
done
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || fail_usage "'$seconds' is not a number of seconds"
if ((${#targets[@]} == 0)); then
  for source in tests/fuzz/*_fuzz.cc; do targets+=("$(basename "$source" _fuzz.cc)"); done
fi

# Debian's clang only recommends the package that has libFuzzer and the sanitizers.
deploy/local/install_dependencies.sh clang libclang-rt-14-dev
deploy/local/build.sh --target fuzzers fuzz

# fuzz TARGET SECONDS
fuzz() {
  local target=$1 new=build/fuzz/corpus/$1 findings=build/fuzz/findings/$1 dictionary=()
  local log=$findings/log
  mkdir -p "$new" "$findings"
  if [[ -f tests/fuzz/dictionaries/$1.dict ]]; then
    dictionary=(-dict="tests/fuzz/dictionaries/$1.dict")
  fi
  # Logs of the code under test would drown libFuzzer's.
  if GLOG_minloglevel=3 "build/fuzz/bin/$1_fuzz" -max_total_time="$2" -timeout=60 -rss_limit_mb=2048 \
    -max_len=65536 -print_final_stats=1 -artifact_prefix="$findings/" "${dictionary[@]}" \
    "$new" "tests/fuzz/corpus/$1" >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
  else
    grep -E '^SUMMARY|^==[0-9]+==ERROR|runtime error' "$log" | head -n 5 || tail -n 5 "$log"
    echo "$target: FAILED; input: $(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1), log: $log"
    return 1
  fi
}
export -f fuzz

failed=0
printf '%s\0' "${targets[@]}" |
  xargs -0 -P "$(nproc)" -I{} bash -c 'fuzz {} '"$seconds"' || touch build/fuzz/findings/{}/failed'
for target in "${targets[@]}"; do
  if [[ -f build/fuzz/findings/$target/failed ]]; then
    failed=$((failed + 1))
    rm "build/fuzz/findings/$target/failed"
  fi
done
echo "$((${#targets[@]} - failed)) passed, $failed failed"
((failed == 0))
