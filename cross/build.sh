#!/usr/bin/env bash
# Builds handloom for aarch64 (Raspberry Pi OS, Debian 12, JetPack 6) on an x86-64 Linux, and its .deb.
# usage: cross/build.sh     CROSS_WITH=rustup|debian|cross chooses the way; without it the first that works is taken:
#
#   rustup   rustup's standard library for the target, Debian's cross linker
#   debian   Debian's own compiler with its arm64 standard library, Debian's cross linker; nothing from rustup
#   cross    the program `cross` with a container engine, in the image of cross/Dockerfile; for hosts without apt
#
# The first two link against a folder of Debian 12's arm64 packages (cross/sysroot.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
sysroot=$PWD/target/cross/sysroot-arm64
say() { echo "cross: $*"; }

# Installs what of these is missing, asking nothing; says how where it may not.
need() {
  local missing=()
  for package; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    sudo=(sudo -n)
    sudo -n true 2>/dev/null || { say "not root; run: apt-get install ${missing[*]}" >&2; return 1; }
  fi
  say "installing ${missing[*]}"
  "${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null >/dev/null &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

has_rustup() {
  command -v rustup >/dev/null || { reason="no rustup"; return 1; }
  rustup target list --installed 2>/dev/null | grep -qx "$target" && return 0
  timeout 300 rustup target add "$target" >/dev/null 2>&1 || { reason="rustup cannot add $target"; return 1; }
}

has_debian() {
  command -v dpkg-query >/dev/null || { reason="no Debian"; return 1; }
  if [ ! -d "/usr/lib/rustlib/$target" ] && [ "$(id -u)" = 0 ]; then
    dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
  fi
  need rustc-web cargo-web "libstd-rust-web-dev:$(dpkg --print-architecture)" libstd-rust-web-dev:arm64 || { reason="Debian's compiler cannot be installed"; return 1; }
}

has_cross() {
  command -v cross >/dev/null || { reason="no program cross (cargo install cross)"; return 1; }
  docker info >/dev/null 2>&1 || podman info >/dev/null 2>&1 || { reason="no container engine answers"; return 1; }
}

way=${CROSS_WITH:-}
if [ -n "$way" ]; then
  case $way in rustup | debian | cross) ;; *) say "CROSS_WITH=$way: give rustup, debian or cross" >&2; exit 64 ;; esac
  "has_$way" || { say "CROSS_WITH=$way: $reason" >&2; exit 1; }
  say "way $way, as asked for"
else
  for candidate in rustup debian cross; do
    if "has_$candidate"; then
      way=$candidate
      break
    fi
    say "not $candidate: $reason"
  done
  [ -n "$way" ] || { say "no way is left; the least is rustup or a Debian" >&2; exit 1; }
  say "way $way (CROSS_WITH chooses another)"
fi

python3 models/fetch.py --arch aarch64
if [ "$way" = cross ]; then
  CROSS_CONFIG=cross/Cross.toml cross build --release --locked --target "$target"
else
  # qemu: the program writes its own man pages, in deb.sh.
  need gcc-aarch64-linux-gnu binutils-aarch64-linux-gnu pkg-config qemu-user-static
  cross/sysroot.sh arm64 "$sysroot"
  lib=$sysroot/usr/lib/aarch64-linux-gnu
  # For the target alone: build scripts link this machine's libraries.
  export PKG_CONFIG_ALLOW_CROSS_aarch64_unknown_linux_gnu=1 PKG_CONFIG_SYSROOT_DIR_aarch64_unknown_linux_gnu=$sysroot
  export PKG_CONFIG_LIBDIR_aarch64_unknown_linux_gnu=$lib/pkgconfig:$sysroot/usr/share/pkgconfig
  export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CFLAGS_aarch64_unknown_linux_gnu=--sysroot=$sysroot
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C link-arg=--sysroot=$sysroot -C link-arg=-Wl,-rpath-link,$lib:$sysroot/lib/aarch64-linux-gnu"
  export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="--sysroot=$sysroot -I$sysroot/usr/include/aarch64-linux-gnu"
  cargo=cargo
  if [ "$way" = debian ]; then
    export RUSTC=/usr/bin/rustc
    command -v cargo >/dev/null || cargo=/usr/bin/cargo
  fi
  "$cargo" build --release --locked --target "$target"
fi
cross/deb.sh "$target"
