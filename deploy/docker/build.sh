#!/bin/bash
# build.sh [IMAGE …]: builds kvec's images with buildah, which needs no daemon, and tags them
# localhost/kvec-IMAGE:0.1.0. IMAGE: coordinator, worker-cpu, eval (default: these) or worker-cuda.
# Wants root. Debian 12 comes from Docker's registry or, where there is no way to it, is made here from
# Debian's packages (KVEC_DEBIAN_MIRROR, else http://deb.debian.org/debian).
set -euo pipefail
cd "$(dirname "$0")/../.."

known='coordinator worker-cpu worker-cuda eval'
images=("$@")
if ((${#images[@]} == 0)); then images=(coordinator worker-cpu eval); fi
for image in "${images[@]}"; do
  case "$image" in
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0" && exit 0 ;;
  esac
  [[ " $known " == *" $image "* ]] || { echo "error: no image '$image'; known: $known" >&2; exit 2; }
done

deploy/local/install_dependencies.sh buildah

make_debian() {
  local mirror=${KVEC_DEBIAN_MIRROR:-http://deb.debian.org/debian} root container
  deploy/local/install_dependencies.sh debootstrap
  root=$(mktemp -d)
  debootstrap --variant=minbase bookworm "$root" "$mirror" >&2
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$root" / >/dev/null
  buildah config --cmd bash "$container"
  for tag in 12 12-slim; do
    buildah commit --quiet "$container" "localhost/debian:$tag" >/dev/null
  done
  buildah rm "$container" >/dev/null
  rm -rf "$root"
}

has_debian() { buildah inspect --type image "$1" >/dev/null 2>&1; }
for tag in 12 12-slim; do
  if has_debian "localhost/debian:$tag" || has_debian "docker.io/library/debian:$tag"; then continue; fi
  if ! buildah pull --quiet "docker.io/library/debian:$tag" >&2; then make_debian; fi
done

# What the build may use of this machine: its compiler cache, and the authorities that it trusts beside
# Debian's (a proxy's).
cache=${CCACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ccache}
mkdir -p "$cache"
volumes=(--volume "$cache:/root/.cache/ccache")
authorities=/usr/local/share/ca-certificates
if [[ -n $(ls -A "$authorities" 2>/dev/null) ]]; then volumes+=(--volume "$authorities:$authorities:ro"); fi

for image in "${images[@]}"; do
  # Containers of its own would need more rights than a build does: chroot is enough.
  buildah build --layers --isolation chroot --network host --pull=false "${volumes[@]}" \
    --ignorefile deploy/docker/Dockerfile.dockerignore --file deploy/docker/Dockerfile \
    --target "$image" --tag "localhost/kvec-$image:0.1.0" . >&2
  echo "localhost/kvec-$image:0.1.0"
done
