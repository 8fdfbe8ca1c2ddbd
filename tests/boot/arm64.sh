#!/usr/bin/env bash
# Installs the arm64 .deb of `make cross` in an arm64 Debian 12 and runs it under qemu-user: --version, check, and one
# clip from file to npz, whose numbers are compared with this machine's. Then it runs a part of the clip in reduced
# precision.
# usage: tests/boot/arm64.sh      as root; needs mmdebstrap, qemu-user-static, arch-test; an hour on two busy cores
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "arm64: run as root: it runs commands in a chroot" >&2; exit 1; }
missing=()
for pair in mmdebstrap:mmdebstrap qemu-aarch64-static:qemu-user-static arch-test:arch-test; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "arm64: installing ${missing[*]}"
  apt-get -q update </dev/null >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi
# Lets the kernel start arm64 programs, also in a chroot (F: the interpreter is opened now).
formats=/proc/sys/fs/binfmt_misc
mountpoint -q $formats || mount -t binfmt_misc binfmt_misc $formats
[ -e $formats/qemu-aarch64 ] || printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:OCF' >$formats/register

work=target/boot
mkdir -p "$work"
tree=$work/debian-12-arm64.tar
package=$(ls -t target/deb/handloom_*_arm64.deb 2>/dev/null | head -1 || true)
[ -n "$package" ] || { echo "arm64: no target/deb/handloom_*_arm64.deb; make cross builds one" >&2; exit 66; }
if [ ! -f "$tree" ]; then
  echo "arm64: making a Debian 12 for arm64 with what the package depends on"
  gst=gstreamer1.0-plugins-base,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad,gstreamer1.0-libav
  mmdebstrap --quiet --variant=minbase --architectures=arm64 --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=systemd-standalone-sysusers,systemd-standalone-tmpfiles,libgstreamer-plugins-base1.0-0,$gst \
    bookworm "${tree%.tar}.part.tar" "deb ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main" \
    "deb ${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security} bookworm-security main"
  mv "${tree%.tar}.part.tar" "$tree"
fi
root=$work/root-arm64
rm -rf "$root" "$work/arm64"
mkdir -p "$root" "$work/arm64"
tar -C "$root" --numeric-owner -xpf "$tree"
cp "$package" "$root/opt/test.deb"

target/release/handloom demo --out "$work/arm64/demo" >/dev/null
clip=(--selected-glosses hello --min-videos-per-gloss 1 --max-samples-per-gloss 1 --workers 1 --progress json)
target/release/handloom process "$work/arm64/demo/dataset" --out "$work/arm64/here" "${clip[@]}" >/dev/null
cp -r "$work/arm64/demo/dataset" "$root/opt/dataset"

# Mounts /proc and /sys, where the models' runtime finds the processors, in a namespace that ends with the command.
inside() { unshare -m --propagation private bash -c 'mount -t proc proc "$1/proc" && mount -t sysfs -o ro sysfs "$1/sys" && shift && exec chroot "$@"' inside "$root" "$root" "$@"; }
inside dpkg --install /opt/test.deb
echo "arm64: $(inside uname -m) $(inside handloom --version)"
inside handloom check --config /etc/handloom/handloom.toml --set dataset.path=/opt/dataset --set plan.min_videos_per_gloss=1
start=$SECONDS
inside handloom process /opt/dataset --out /opt/there "${clip[@]}" --clip-timeout 3600 >/dev/null
echo "arm64: one clip in $((SECONDS - start)) s"
python3 tests/boot/compare.py "$work/arm64/here/batches/00000.npz" "$root/opt/there/batches/00000.npz" landmarks 2.5e-4
python3 tests/boot/compare.py "$work/arm64/here/wlasl_landmarks.npz" "$root/opt/there/wlasl_landmarks.npz" sequences 1e-3

# Reduced precision on the processors of a Raspberry Pi 4, which lacks arithmetic in 16-bit floats, and of a Pi 5.
few=("${clip[@]}" --sequence-length 2 --min-frames 1 --accelerator-timeout 3600)
for backend in cpu require:cpu:int8; do
  target/release/handloom process "$work/arm64/demo/dataset" --out "$work/arm64/few-$backend" "${few[@]}" --accelerator "$backend" >/dev/null
done
there() { QEMU_CPU=$1 inside handloom process /opt/dataset --out "/opt/$1-$2" "${few[@]}" --clip-timeout 3600 --accelerator "require:$2"; }
near() { python3 tests/boot/compare.py "$work/arm64/few-$1/batches/00000.npz" "$root/opt/$2/batches/00000.npz" landmarks "${@:3}"; }
code=0
there cortex-a72 cpu:fp16 >"$work/arm64/refused" 2>&1 || code=$?
[ $code = 69 ] && grep -q "ARMv8.2's arithmetic in 16-bit floats, which this processor lacks" "$work/arm64/refused" ||
  { cat "$work/arm64/refused" >&2; echo "arm64: cpu:fp16 ends with $code on cortex-a72, not 69 with its reason" >&2; exit 1; }
echo "arm64: cortex-a72 refuses cpu:fp16: $(grep -o "[^;:]*which this processor lacks" "$work/arm64/refused" | head -1)"
for run in cortex-a72-cpu:int8 cortex-a76-cpu:int8 cortex-a76-cpu:fp16; do
  start=$SECONDS
  there "${run:0:10}" "${run:11}" >/dev/null
  echo "arm64: $run in $((SECONDS - start)) s"
  # Compares fp16 with f32, and int8 with itself: the limit is the effect of noise of one grey level. The palms agree
  # to five digits, so some pixels of a crop differ by one level, which affects int8 as noise does.
  # tests/models/processors.py compares equal crops.
  here=cpu
  [ "${run:11}" != cpu:int8 ] || here=require:cpu:int8
  near $here "$run" 2.3e-3 0.95
done
