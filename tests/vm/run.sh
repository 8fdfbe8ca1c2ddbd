#!/usr/bin/env bash
# Boots a QEMU guest with Debian's generic kernel, loads its vivid driver (a software camera), and runs
# tests/camera/vm.rs and the program with it. Needs qemu-system-x86, busybox-static, cpio and kmod, but no root.
# Writes to target/vm.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/target/vm
root=$work/root
log=$work/log
mkdir -p "$work"

for tool in qemu-system-x86_64 busybox cpio modprobe depmod; do
    PATH=$PATH:/sbin:/usr/sbin command -v "$tool" >/dev/null || {
        echo "$tool is missing: apt-get install qemu-system-x86 busybox-static cpio kmod" >&2
        exit 69
    }
done
export PATH=$PATH:/sbin:/usr/sbin

# Uses the kernel of Debian's meta package; the -cloud- kernels have no vivid.
package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
kernel=${package#linux-image-}
if [ ! -d "$work/$package/lib/modules/$kernel" ]; then
    (cd "$work" && apt-get download "$package")
    dpkg-deb -x "$work"/"$package"_*.deb "$work/$package"
    rm "$work"/"$package"_*.deb
    depmod -b "$work/$package" "$kernel"
fi

tests=$(cargo test --locked --test camera --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/deps\/camera-[^"]*\)".*/\1/p' | tail -1)
program=target/debug/handloom

rm -rf "$root"
mkdir -p "$root"/{bin,dev,etc,lib,lib64,models,modules,proc,sys,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
for name in "$tests:vm" "$program:handloom"; do
    strip --strip-debug -o "$root/bin/${name#*:}" "${name%%:*}"
done
cp models/fetched/*.tflite "$root/models/"
libraries() { ldd "$@" | awk '/=> \// {print $3} $1 ~ /^\/lib/ {print $1}' | sort -u; }
cp -L $(libraries "$tests" "$program") "$root/lib/"
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
modprobe -d "$work/$package" -S "$kernel" --show-depends vivid |
    awk '/^insmod/ {print $2}' | while read -r module; do
    cp "$module" "$root/modules/"
    basename "$module" >>"$root/modules/order"
done
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin LD_LIBRARY_PATH=/lib HOME=/tmp HANDLOOM_MODELS=/models HANDLOOM_TEST_VIVID=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
ip link set lo up
for module in $(cat /modules/order); do
    case $module in
    # A single device, which captures video.
    vivid.ko) insmod /modules/$module n_devs=1 node_types=0x1 ;;
    *) insmod /modules/$module ;;
    esac
done
chmod 600 /dev/video0
failed=0
check() { echo "== $1"; shift; "$@" || { echo "FAILED: $*"; failed=1; }; }
exits_with() { want=$1; shift; "$@"; code=$?; [ $code = $want ]; }
check "the tests" vm vm:: --test-threads=1 --nocapture
check "the list" handloom camera --list --progress bar
check "capture" handloom camera --device /dev/video* --seconds 5 --progress json
check "no permission" exits_with 69 su nobody -s /bin/sh -c 'handloom camera --device /dev/video* --seconds 5'
echo "VM ENDED WITH $failed"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"

# Emulates the CPU, since /dev/kvm rarely works inside a virtual machine. VM_ACCEL="-accel kvm -cpu host" tries it.
accel=${VM_ACCEL:--accel tcg,thread=multi,tb-size=256 -cpu Haswell-v4}
# shellcheck disable=SC2086
timeout "${VM_TIMEOUT:-570}" qemu-system-x86_64 -M q35 $accel -m 2048 -smp 2 -nodefaults -display none -no-reboot \
    -serial stdio -kernel "$work/$package/boot/vmlinuz-$kernel" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1" </dev/null | tee "$log"
grep -q "VM ENDED WITH 0" "$log"
