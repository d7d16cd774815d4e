#!/usr/bin/env bash
# Installs OpenVINO GenAI and converts the model to int8 weights. Converting needs an environment
# of its own with PyTorch (several GB), which may be removed afterwards.
# Usage: install_openvino_genai.sh PREFIX MODEL.gguf
set -euo pipefail

if [[ $# -ne 2 ]]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
mkdir -p "$1"
prefix=$(realpath "$1")
model=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
name=$(basename "$model" .gguf)

if [[ ! -x $prefix/venv/bin/python ]]; then
  python3 -m venv "$prefix/venv"
  "$prefix/venv/bin/pip" install openvino-genai==2026.4.1.0
fi
if [[ ! -f $prefix/$name-int8/openvino_model.bin ]]; then
  python3 -m venv "$prefix/convert"
  "$prefix/convert/bin/pip" install 'optimum-intel[openvino]==2.2.0' gguf==0.19.0 accelerate
  "$prefix/convert/bin/python" "$here/gguf_to_hugging_face.py" "$model" "$prefix/$name-hf"
  PATH=$prefix/convert/bin:$PATH HF_HUB_OFFLINE=1 optimum-cli export openvino \
    --model "$prefix/$name-hf" --task text-generation-with-past --weight-format int8 \
    "$prefix/$name-int8"
fi

echo "export KVEC_OPENVINO_PYTHON='$prefix/venv/bin/python'"
echo "export KVEC_OPENVINO_MODEL='$prefix/$name-int8'"
