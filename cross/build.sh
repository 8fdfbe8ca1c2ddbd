#!/usr/bin/env bash
# Builds handloom and its .deb for aarch64 (Raspberry Pi OS, Debian 12, JetPack 6) on an x86-64 Linux.
# usage: cross/build.sh     CROSS_WITH=rustup|debian|cross chooses the toolchain; the default is the first that works:
#
#   rustup   rustup's standard library for the target, Debian's cross linker
#   debian   Debian's own compiler with its arm64 standard library, Debian's cross linker; no rustup
#   cross    the program `cross` with a container engine, in the image of cross/Dockerfile; for hosts without apt
#
# The first two link against a folder of Debian 12's arm64 packages (cross/sysroot.sh). The script installs missing
# packages when it runs as root or with a sudo that needs no password.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
sysroot=$PWD/target/cross/sysroot-arm64
log() { echo "cross: $*"; }

may_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs those of these packages that are missing, without a prompt; prints the command where it may not.
need() {
  local missing=() package
  for package; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  may_install || { log "not root, and sudo is not here or wants a password; run: sudo apt-get install ${missing[*]}" >&2; return 1; }
  log "installing ${missing[*]}"
  as_root apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null >/dev/null &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

has_rustup() {
  command -v rustup >/dev/null || { reason="no rustup"; return 1; }
  command -v dpkg-query >/dev/null || { reason="no apt and dpkg here, for the linker and the libraries"; return 1; }
  rustup target list --installed 2>/dev/null | grep -qx "$target" && return 0
  timeout 300 rustup target add "$target" >/dev/null 2>&1 || { reason="rustup cannot add $target"; return 1; }
}

has_debian() {
  local id wanted candidate version
  id=$(. /etc/os-release 2>/dev/null && echo "${ID:-}" || true)
  # Only Debian has rustc-web, and the mirrors of its derivatives have no arm64 packages beside amd64 ones.
  [ "$id" = debian ] || { reason="this is ${id:-unknown}, not Debian"; return 1; }
  if [ -d "/usr/lib/rustlib/$target" ] && [ -x /usr/bin/rustc ]; then
    version=$(/usr/bin/rustc --version | cut -d' ' -f2)
  else
    may_install || { reason="not root, and sudo is not here or wants a password"; return 1; }
    as_root apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null >/dev/null || { reason="apt-get update fails"; return 1; }
    candidate=$(apt-cache policy rustc-web | sed -n 's/^  Candidate: //p')
    version=${candidate%%[+~-]*}
  fi
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  dpkg --compare-versions "${version:-0}" ge "$wanted" || {
    reason="Debian's rustc-web is ${version:-unavailable}, Cargo.toml requires $wanted; Debian 12 has it in bookworm-security"
    return 1
  }
  if ! dpkg --print-foreign-architectures | grep -qx arm64; then
    may_install || { reason="dpkg does not know arm64 here; run: sudo dpkg --add-architecture arm64"; return 1; }
    log "adding arm64 to the architectures of this machine's dpkg; to remove it: dpkg --remove-architecture arm64"
    as_root dpkg --add-architecture arm64
  fi
  need rustc-web cargo-web "libstd-rust-web-dev:$(dpkg --print-architecture)" libstd-rust-web-dev:arm64 || { reason="Debian's compiler cannot be installed"; return 1; }
}

has_cross() {
  command -v cross >/dev/null || { reason="no program cross (cargo install cross)"; return 1; }
  docker info >/dev/null 2>&1 || podman info >/dev/null 2>&1 || { reason="no container engine answers"; return 1; }
}

way=${CROSS_WITH:-}
if [ -n "$way" ]; then
  case $way in rustup | debian | cross) ;; *) log "CROSS_WITH=$way: give rustup, debian or cross" >&2; exit 64 ;; esac
  "has_$way" || { log "CROSS_WITH=$way: $reason" >&2; exit 1; }
  log "toolchain $way, as requested"
else
  for candidate in rustup debian cross; do
    if "has_$candidate"; then
      way=$candidate
      break
    fi
    log "not $candidate: $reason"
  done
  [ -n "$way" ] || { log "no toolchain works; rustup or a Debian is required" >&2; exit 1; }
  log "toolchain $way (CROSS_WITH chooses another)"
fi

if command -v dpkg-query >/dev/null; then
  # For fetching, the sysroot, packing and checking the .deb. qemu: in deb.sh the program writes its own man pages.
  tools=(python3 debian-archive-keyring qemu-user-static binutils-aarch64-linux-gnu dpkg-dev lintian)
  python3 -m pip --version >/dev/null 2>&1 || tools+=(python3-pip)
  # For building: a compiler for the build scripts, libclang for bindgen, a linker for the target.
  [ "$way" = cross ] || tools+=(gcc libc6-dev pkg-config libclang-dev gcc-aarch64-linux-gnu)
  # The image of cross/Dockerfile has its own sysroot; without this one deb.sh checks fewer dependencies.
  if ! { need "${tools[@]}" && cross/sysroot.sh arm64 "$sysroot"; }; then
    [ "$way" = cross ] || exit 1
  fi
elif [ ! target/release/handloom -nt Cargo.lock ]; then
  log "without apt there is no qemu, so this machine's build must write the man pages: run make build, then this" >&2
  exit 1
fi
python3 models/fetch.py --arch aarch64
# These models have the same bytes on every machine.
models/quantise/run.sh models/quantise/build.py
if [ "$way" = cross ]; then
  CROSS_CONFIG=cross/Cross.toml cross build --release --locked --target "$target"
else
  lib=$sysroot/usr/lib/aarch64-linux-gnu
  # Variables of the target only: build scripts link this machine's libraries.
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
