#!/usr/bin/env bash
# Makes this machine ready to build and test Handloom: Debian packages, the TFLite C library and the two models.
# Safe to repeat, asks nothing; once done it needs no network.
# usage: models/setup.sh [package]     with "package" also what makes and judges the .deb
set -euo pipefail
cd "$(dirname "$0")/.."

# What each is for: building; GStreamer's headers; decoding (libav, good: MP4, bad: parsers); drawing test clips
# (ugly: x264); looking into clips by hand (tools, named in README); fetching pinned wheels; judging units; TLS to the broker; a
# broker and its clients for the tests.
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

# Stripping and reading the program; what it depends on; judging the .deb.
[ "${1:-}" != package ] || packages+=(binutils dpkg-dev lintian)

if ! command -v cargo >/dev/null; then
  echo "setup: no cargo found; install Rust 1.92 or newer first, as rust-lang.org says" >&2
  exit 1
fi

# pip comes with some Pythons; Debian has it as a package of its own.
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is no Debian; install what corresponds to: ${packages[*]}" >&2
else
  missing=()
  for package in "${packages[@]}"; do
    # A status of "install ok installed" and nothing less.
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    sudo=()
    if [ "$(id -u)" != 0 ]; then
      # -n: nothing is asked.
      sudo -n true 2>/dev/null || {
        echo "setup: not root, and sudo is not here or wants a password; run \`sudo -v\` before this, or as root: apt-get install ${missing[*]}" >&2
        exit 1
      }
      sudo=(sudo -n)
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get -q -o DPkg::Lock::Timeout=300 update </dev/null
    # RUNLEVEL=1: the tests start brokers of their own, none is to run as a service because of us.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}" </dev/null
  fi
fi

python3 models/fetch.py
