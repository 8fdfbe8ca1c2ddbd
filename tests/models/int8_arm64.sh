#!/usr/bin/env bash
# Runs tests/models/int8.py in an arm64 Debian 12 under qemu-user, and then processors.py, which compares the models'
# outputs with this machine's: on processors without and with arithmetic in 16-bit floats.
# usage: tests/models/int8_arm64.sh      as root; needs mmdebstrap, qemu-user-static, arch-test; five minutes
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "int8_arm64: run as root: it runs commands in a chroot" >&2; exit 1; }
missing=()
for pair in mmdebstrap:mmdebstrap qemu-aarch64-static:qemu-user-static arch-test:arch-test; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "int8_arm64: installing ${missing[*]}"
  apt-get -q update </dev/null >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi
root=target/boot/python-arm64
mkdir -p target/boot
if [ ! -d $root/usr ]; then
  # Packages are extracted, not configured, so that no maintainer script runs emulated.
  mmdebstrap --quiet --mode=root --variant=extract --architectures=arm64 --aptopt='APT::Install-Recommends "false"' \
    --include=python3,libstdc++6,libgcc-s1,zlib1g bookworm $root.part "deb ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main"
  mv $root.part $root
fi
if ! cmp -s models/quantise/requirements.txt $root/opt/packages/installed; then
  rm -rf $root/opt/packages
  python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action ignore --no-deps --only-binary=:all: \
    --require-hashes --platform manylinux2014_aarch64 --python-version 3.11 --implementation cp --abi cp311 \
    --target $root/opt/packages --requirement models/quantise/requirements.txt </dev/null
  cp models/quantise/requirements.txt $root/opt/packages/installed
fi
models/quantise/run.sh models/quantise/build.py
models/quantise/run.sh tests/models/processors.py record $root/opt/recorded.npz
rm -rf $root/opt/models $root/opt/tests
mkdir -p $root/opt/tests
cp -r models $root/opt/models
cp tests/models/{int8,processors}.py $root/opt/tests/
python3 models/fetch.py --arch aarch64 --into $root/opt/models/fetched
cp "$(command -v qemu-aarch64-static)" $root/usr/bin/
mkdir -p $root/proc $root/sys
# Mounts /proc and /sys, where the models' runtime finds the processors, in a namespace that ends with the command.
inside() { unshare -m --propagation private bash -c 'mount -t proc proc "$1/proc" && mount -t sysfs -o ro sysfs "$1/sys" && shift && exec chroot "$@"' inside $root $root "$@"; }
python() { inside /usr/bin/qemu-aarch64-static -cpu "$processor" -E PYTHONPATH=/opt/packages:/opt/models/quantise /usr/bin/python3.11 -B -s "$@"; }
# The processors of a Raspberry Pi 4 and of a Pi 5.
for run in cortex-a72:no-fp16 cortex-a76:fp16; do
  processor=${run%%:*}
  echo "int8_arm64: $processor"
  python /opt/tests/int8.py
  python /opt/tests/processors.py compare /opt/recorded.npz "${run#*:}"
done
