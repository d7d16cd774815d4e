#!/bin/bash
# third_party_notices.sh PROGRAM …: prints the copyright and licence texts of all that the programs are
# built from and linked with: Debian's packages (those of the shared libraries, and of libraries that
# leave no shared one behind), and what deploy/local fetches. Run it where the programs were built; exit
# code 1 where a text is missing, 2 for wrong usage.
set -euo pipefail

if (($# == 0)); then
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
# Headers only, or linked statically.
packages=(libcli11-dev libdnnl-dev libhwy-dev nlohmann-json3-dev)

libraries=$(ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u)
while read -r library; do
  # Packages name their files below /lib or below /usr/lib, which are one folder.
  real=$(readlink -f "$library")
  owner=$(dpkg-query --search "$real" 2>/dev/null || dpkg-query --search "${real#/usr}" 2>/dev/null) ||
    { echo "error: $library belongs to no package" >&2; exit 1; }
  packages+=("${owner%%:*}")
done <<<"$libraries"

print_notice() { # print_notice NAME VERSION FILE
  printf '\n%s\n%s %s\n%s\n\n' "${rule:=$(printf '=%.0s' {1..100})}" "$1" "$2" "$rule"
  cat "$3"
}

echo "kvec is built from, or linked with, the following works."
for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
  text=/usr/share/doc/$package/copyright
  [[ -f $text ]] || { echo "error: $text is missing" >&2; exit 1; }
  print_notice "$package" "$(dpkg-query --show --showformat='${Version}' "$package")" "$text"
done
print_notice "llama.cpp, its Jinja engine" "$(cat "$root/build/third_party/jinja/VERSION")" \
  "$root/build/third_party/jinja/LICENSE"
