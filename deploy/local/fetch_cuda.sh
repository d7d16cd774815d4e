#!/bin/bash
# fetch_cuda.sh headers|compiler: fetches a part of NVIDIA's CUDA toolkit from PyPI, where this machine
# has none, into build/third_party (KVEC_THIRD_PARTY_DIR if that is set). CMake finds it there.
#
#   headers   26 MB: what the tests of kernels/cuda on the host simulator need
#   compiler  0.9 GB: nvcc, the runtime, cuBLAS and NCCL, to build for GPUs. No GPU or driver is needed
#
# A second run does nothing. NVIDIA's licence applies: https://docs.nvidia.com/cuda/eula
set -euo pipefail
cd "$(dirname "$0")/../.."

third_party=${KVEC_THIRD_PARTY_DIR:-$PWD/build/third_party}
toolkits=("${CUDAToolkit_ROOT:-/usr/local/cuda}" /usr/local/cuda "$third_party/cuda")
case "${1:-}" in
  headers)
    looked_for=include/nv/target
    target=$third_party/cuda-headers
    packages=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85)
    ;;
  compiler)
    if command -v nvcc >/dev/null; then exit 0; fi
    looked_for=bin/nvcc
    target=$third_party/cuda
    packages=('cuda-toolkit[nvcc,cudart,cccl,crt,nvvm,cublas]==13.0.2' nvidia-nccl-cu13==2.28.9)
    ;;
  *)
    echo "usage: fetch_cuda.sh headers|compiler" >&2
    exit 2
    ;;
esac
for toolkit in "${toolkits[@]}" "$target"; do
  if [[ -e $toolkit/$looked_for ]]; then exit 0; fi
done

mkdir -p "$third_party"
work=$(mktemp -d "$third_party/.download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Downloading from PyPI: ${packages[*]}" >&2
options=()
if [[ $1 == headers ]]; then options=(--no-deps); fi
python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: "${options[@]}" \
  --target "$work/packages" "${packages[@]}" >&2

# The packages' folder becomes a toolkit's: linkers look for names without versions, CMake for lib64.
root=$work/packages/nvidia/cu13
if [[ -d $work/packages/nvidia/nccl ]]; then cp -a "$work/packages/nvidia/nccl/." "$root"; fi
for library in "$root"/lib/lib*.so.*; do
  name=$(basename "$library")
  if [[ ! -e $root/lib/${name%%.so.*}.so ]]; then ln -s "$name" "$root/lib/${name%%.so.*}.so"; fi
done
ln -sfn lib "$root/lib64"
# cuda_fp16.h asks for nv/target.
if [[ ! -e $root/include/nv && -d $root/include/cccl/nv ]]; then ln -s cccl/nv "$root/include/nv"; fi
rm -rf "$target"
mv "$root" "$target"
