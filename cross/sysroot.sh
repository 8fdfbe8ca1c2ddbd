#!/usr/bin/env bash
# Makes a folder with Debian 12's libraries and headers for another architecture, to link against.
# usage: cross/sysroot.sh ARCH DIR [PACKAGE...]
#
# Needs apt and dpkg-deb, but no root, container engine or emulation: a separate apt state fetches the packages and
# their dependencies, dpkg-deb unpacks them, and their scripts do not run. DEBIAN_MIRROR names another mirror.
set -euo pipefail
arch=$1
root=$2
shift 2
packages=("$@")
# The program links glibc, GStreamer and OpenSSL; its TFLite library links the C++ library.
[ ${#packages[@]} -gt 0 ] || packages=(libc6-dev libgcc-12-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libssl-dev libstdc++6)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# The release file of a snapshot has expired.
case $mirror in *snapshot*) fresh=false ;; *) fresh=true ;; esac
keys=/usr/share/keyrings/debian-archive-keyring.gpg
for program in apt-get dpkg-deb; do
  command -v "$program" >/dev/null || { echo "sysroot: no $program here; use CROSS_WITH=cross, or a Debian or Ubuntu" >&2; exit 1; }
done
[ -f "$keys" ] || { echo "sysroot: no $keys; apt-get install debian-archive-keyring" >&2; exit 1; }

wanted="2 $arch $mirror ${packages[*]}"
if [ "$(cat "$root/.made-of" 2>/dev/null)" = "$wanted" ]; then
  echo "sysroot: $root is in place"
  exit 0
fi
rm -rf "$root"
mkdir -p "$root"
root=$(realpath "$root")
apt=$root.apt
rm -rf "$apt"
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt"/{lists/partial,cache/archives/partial,none}
: >"$apt/status"
cat >"$apt/sources.list" <<LIST
deb [signed-by=$keys] $mirror bookworm main
deb [signed-by=$keys] $mirror bookworm-updates main
deb [signed-by=$keys] ${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security} bookworm-security main
LIST
get() {
  apt-get -q -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
    -o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/none" \
    -o Dir::Etc::preferences="$apt/none/x" -o Dir::Etc::preferencesparts="$apt/none" \
    -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Install-Recommends=false \
    -o APT::Sandbox::User="" -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any -o Acquire::Check-Valid-Until="$fresh" "$@" </dev/null
}
echo "sysroot: fetching ${packages[*]} for $arch from $mirror"
get update >"$apt/log" 2>&1 || { cat "$apt/log" >&2; exit 1; }
get -y --download-only install "${packages[@]}" >"$apt/log" 2>&1 || { cat "$apt/log" >&2; exit 1; }
# For dpkg-shlibdeps in deb.sh: the package of each library, and the version that has a symbol.
info=$root/var/lib/dpkg/info
mkdir -p "$info" "$apt/control"
: >"$root/var/lib/dpkg/status"
for package in "$apt"/cache/archives/*.deb; do
  dpkg-deb --extract "$package" "$root"
  rm -f "$apt"/control/*
  dpkg-deb --control "$package" "$apt/control"
  name=$(sed -n 's/^Package: //p' "$apt/control/control")
  ! grep -q '^Multi-Arch: same' "$apt/control/control" || name=$name:$arch
  dpkg-deb --fsys-tarfile "$package" | tar -t | sed 's|^\./$|/.|; s|^\./|/|; s|\(.\)/$|\1|' >"$info/$name.list"
  for kind in symbols shlibs; do
    [ ! -f "$apt/control/$kind" ] || cp "$apt/control/$kind" "$info/$name.$kind"
  done
  { grep -v '^Status:' "$apt/control/control"; printf 'Status: install ok installed\n\n'; } >>"$root/var/lib/dpkg/status"
done
printf '1\n' >"$info/format"
# Absolute links would point to this machine's own libraries.
find "$root" -type l -lname '/*' | while read -r link; do
  target=$root$(readlink "$link")
  [ ! -e "$target" ] || ln -sfn "$(realpath --relative-to="$(dirname "$link")" "$target")" "$link"
done
echo "$wanted" >"$root/.made-of"
echo "sysroot: $(find "$apt/cache/archives" -name '*.deb' | wc -l) packages, $(du -sh "$root" | cut -f1) in $root"
