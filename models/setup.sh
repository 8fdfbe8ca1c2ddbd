#!/usr/bin/env bash
# Prepares this machine to build and test Handloom: installs Debian packages, the TFLite C library and the two models.
# Safe to repeat, without prompts; a repeat needs no network.
# usage: models/setup.sh [package]     with "package" also installs the tools that make and check the .deb
set -euo pipefail
cd "$(dirname "$0")/.."

# The lines are for: building; GStreamer's headers; decoding (libav, good: MP4, bad: parsers); encoding test clips
# (ugly: x264) and inspecting clips by hand (tools, named in README); fetching pinned wheels; checking units; TLS to
# the broker; a broker and its clients for the tests.
packages=(
  gcc libc6-dev pkg-config libclang-dev
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav
  gstreamer1.0-plugins-ugly gstreamer1.0-tools
  python3
  systemd
  libssl-dev openssl
  mosquitto mosquitto-clients
)

# For stripping and reading the program; finding its dependencies; checking the .deb.
[ "${1:-}" != package ] || packages+=(binutils dpkg-dev lintian)

if ! command -v cargo >/dev/null; then
  echo "setup: no cargo found; install Rust 1.92 or newer first, as rust-lang.org says" >&2
  exit 1
fi

# Some Pythons include pip; Debian has it as a separate package.
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is no Debian; install what corresponds to: ${packages[*]}" >&2
else
  missing=()
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    sudo=()
    if [ "$(id -u)" != 0 ]; then
      # -n: sudo does not prompt.
      sudo -n true 2>/dev/null || {
        echo "setup: not root, and sudo is not here or wants a password; run \`sudo -v\` before this, or as root: apt-get install ${missing[*]}" >&2
        exit 1
      }
      sudo=(sudo -n)
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null
    # RUNLEVEL=1: the installation starts no broker as a service; the tests start their own.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}" </dev/null
  fi
fi

python3 models/fetch.py
