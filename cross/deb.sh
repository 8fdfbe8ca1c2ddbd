#!/usr/bin/env bash
# Packs a build as target/deb/handloom_VERSION_ARCH.deb and checks it.
# usage: cross/deb.sh [TARGET]     after `cargo build --release [--target TARGET]`; default: this machine
# DEB_PROFILE=debug packs the larger build of the tests into target/deb-debug instead. Only tests use that package.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p')
host=${host:-x86_64-unknown-linux-gnu}
target=${1:-$host}
output=${CARGO_TARGET_DIR:-target}
profile=${DEB_PROFILE:-release}
system=$(. /etc/os-release 2>/dev/null && v=${VERSION_ID:-} && echo "$ID ${v%%.*}" || echo unknown)
log() { echo "deb: $*"; }
fail() { echo "deb: $*" >&2; exit 1; }

# is_declared NAME "(>= VERSION)": whether Depends requires this package in at least this version.
is_declared() {
  local asked wanted
  asked=$(awk -v name="$1" '$1 == name' <<<"$declared")
  [ -n "$asked" ] || return 1
  [ -n "$2" ] || return 0
  asked=${asked##*>= } wanted=${2##*>= }
  dpkg --compare-versions "${asked%)}" ge "${wanted%)}"
}

arch=${target%%-*}
case $arch in
  x86_64) debian=amd64 ;;
  aarch64) debian=arm64 ;;
  *) fail "no package for $target; there is one for x86_64 and aarch64" ;;
esac
built=$output/$target/$profile/handloom
[ "$target" != "$host" ] || built=$output/$profile/handloom
[ -x "$built" ] || fail "no $built; build first: make deb, make cross"
sysroot=$PWD/target/cross/sysroot-$debian
prefix=
[ "$arch" = "$(uname -m)" ] || prefix=$arch-linux-gnu-
command -v "${prefix}strip" >/dev/null || prefix=llvm-
command -v "${prefix}strip" >/dev/null || fail "nothing strips $arch here: apt-get install binutils-$arch-linux-gnu, or llvm"

stage=target/package
root=$stage/root
rm -rf "$stage"
mkdir -p "$root/usr/bin" "$root/usr/lib/handloom/models" "$root/usr/share/doc/handloom/examples/cluster" "$root/usr/share/lintian/overrides" \
  "$root/usr/lib/systemd/system" "$root"/usr/lib/{sysusers.d,tmpfiles.d,udev/rules.d} "$root/etc/handloom"

"${prefix}strip" --strip-unneeded --remove-section=.comment -o "$root/usr/bin/handloom" "$built"
cp "models/fetched/$arch/libtensorflowlite_c.so" "$root/usr/lib/handloom/"
cp models/fetched/*.tflite "$root/usr/lib/handloom/models/"
[ -f models/fetched/hand_int8_cpu.tflite ] || fail "no int8 models in models/fetched: make models-int8"
# -L: the templates' sandbox folders are links to one shared folder.
cp -rL systemd/*.service systemd/*.timer systemd/*.service.d "$root/usr/lib/systemd/system/"
cp systemd/handloom.sysusers "$root/usr/lib/sysusers.d/handloom.conf"
cp systemd/handloom.tmpfiles "$root/usr/lib/tmpfiles.d/handloom.conf"
cp systemd/handloom.udev "$root/usr/lib/udev/rules.d/60-handloom.rules"

sed -f cross/package/config.sed systemd/handloom.toml >"$root/etc/handloom/handloom.toml"
# An unchanged copy: the user may edit the one in /etc.
cp "$root/etc/handloom/handloom.toml" "$root/usr/share/doc/handloom/examples/"
cp systemd/cluster/*.{sbatch,yaml,sh} "$root/usr/share/doc/handloom/examples/cluster/"

# The packed program writes man pages and completions, so that versions match. Where it cannot run, this machine's
# build does.
writer=("$built") libraries=models/fetched/$arch
if [ "$arch" != "$(uname -m)" ]; then
  if qemu=$(command -v "qemu-$arch-static" || command -v "qemu-$arch") && [ -d "$sysroot" ]; then
    writer=("$qemu" -L "$sysroot" "$built")
  elif [ "$output/$profile/handloom" -nt Cargo.lock ]; then
    log "no qemu-$arch or no $sysroot here: man pages and completions from $output/$profile/handloom"
    writer=("$output/$profile/handloom") libraries=models/fetched/$(uname -m)
  else
    fail "nothing writes the man pages: install qemu-user-static (with $sysroot by cross/sysroot.sh), or run make build first"
  fi
fi
LD_LIBRARY_PATH=$libraries "${writer[@]}" docs --out "$root/usr/share"
gzip -9n "$root"/usr/share/man/man1/*.1

cross/licences.py "$target" | gzip -9n >"$root/usr/share/doc/handloom/third-party-licences.txt.gz"
gzip -9nc cross/package/tflite-licences.txt >"$root/usr/share/doc/handloom/tflite-licences.txt.gz"
gzip -9nc CHANGELOG.md >"$root/usr/share/doc/handloom/changelog.gz"
# Links in the guides name the files in the package.
guide() { sed -f cross/package/guides.sed "$1" | gzip -9n >"$root/usr/share/doc/handloom/$2.md.gz"; }
guide README.md README
guide src/dataset/README.md data
guide cross/README.md install
guide systemd/README.md operate
guide models/README.md accelerators
guide systemd/cluster/README.md cluster
guide systemd/cluster/scale.md scale
cp cross/package/lintian-overrides "$root/usr/share/lintian/overrides/handloom"
cp cross/package/copyright "$root/usr/share/doc/handloom/"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)-${DEB_REVISION:-1}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
maintainer="Handloom maintainers <maintainers@handloom.example>"
gzip -9n >"$root/usr/share/doc/handloom/changelog.Debian.gz" <<END
handloom ($version) stable; urgency=medium

  * See changelog.gz.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END

chmod -R u=rwX,go=rX "$root"
find "$root" -type f ! -path "$root/usr/bin/*" -exec chmod 644 {} +
declared=$(grep -v '^#' cross/package/depends)
# Packs the .deb with these dependencies, one on each line.
pack() {
  cat >"$root/DEBIAN/control" <<END
Package: handloom
Version: $version
Architecture: $debian
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
Depends: $(paste -sd , <<<"$1" | sed 's/,/, /g')
Recommends: ca-certificates
Suggests: mosquitto, mosquitto-clients, gstreamer1.0-tools, gstreamer1.0-plugins-ugly, gstreamer1.0-libcamera
Section: video
Priority: optional
Description: $(sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml | head -1)
 Runs MediaPipe's two hand models over the clips of a WLASL dataset and writes
 each as a normalised sequence of 32 frames with 126 numbers, as a service that
 resumes after power cuts, reports over MQTT and spares a hot device.
 .
 The models and the TensorFlow Lite library are in the package.
END
  dpkg-deb --root-owner-group -Zxz -z"$level" --build "$root" "$package" >/dev/null
}
mkdir "$root/DEBIAN"
install -m 755 cross/package/{postinst,prerm,postrm} "$root/DEBIAN/"
echo /etc/handloom/handloom.toml >"$root/DEBIAN/conffiles"
# Sums for `dpkg --verify`; dpkg itself stores those of conffiles.
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
folder=target/deb
level=6
[ "$profile" = release ] || folder=target/deb-$profile level=1
package=$folder/handloom_${version}_$debian.deb
mkdir -p "$folder"
pack "$declared"

# A separate package for LiteRT, which is large and for Vulkan GPUs, where it is fetched (`make setup-litert`, or
# models/fetch.py --litert --arch ARCH).
if [ -f "models/fetched/$arch/libLiteRt.so" ]; then
  lite=$stage/litert
  mkdir -p "$lite/DEBIAN" "$lite/usr/lib/handloom" "$lite/usr/share/doc/handloom-litert"
  cp "models/fetched/$arch"/libLiteRt*.so "$lite/usr/lib/handloom/"
  cat >"$lite/usr/share/doc/handloom-litert/copyright" <<END
LiteRT 2.3.0 and its WebGPU accelerator, from the Python package ai-edge-litert 2.3.0. Copyright 2024-2026 Google LLC.
Apache-2.0, whose text is in /usr/share/common-licenses/Apache-2.0.
END
  cat >"$lite/DEBIAN/control" <<END
Package: handloom-litert
Version: $version
Architecture: $debian
Maintainer: $maintainer
Section: video
Priority: optional
Depends: handloom, libc6 (>= 2.34), libvulkan1
Recommends: mesa-vulkan-drivers
Description: LiteRT for Handloom: its models on a Vulkan GPU
 The runtime and its GPU accelerator, which the program loads when a backend of
 LiteRT's is requested.
END
  chmod -R u=rwX,go=rX "$lite"
  dpkg-deb --root-owner-group -Zxz --build "$lite" "$folder/handloom-litert_${version}_$debian.deb" >/dev/null
  log "$folder/handloom-litert_${version}_$debian.deb"
fi

# Checks of the package.
binary=$root/usr/bin/handloom
bytes=$(stat -c %s "$binary")
[ "$profile" != release ] || [ "$bytes" -le 20000000 ] || fail "the stripped binary has $bytes bytes, more than 20 MB"
readelf -d "$binary" | grep -qF '$ORIGIN/../lib/handloom' || fail "no run path to lib/handloom"
! readelf -d "$binary" | sed -n 's/.*RUNPATH.*\[\(.*\)\]/\1/p' | tr : '\n' | grep -q '^/' || fail "a path of the build machine in the run path"
library=$root/usr/lib/handloom/libtensorflowlite_c.so
glibc=$(readelf -V --wide "$binary" "$library" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1 | tr -d 'GLIBC_')
is_old_enough=$([ "$(printf '%s\n2.34\n' "$glibc" | sort -V | tail -1)" = 2.34 ] && echo yes || echo no)
foreign=()
# dpkg-shlibdeps uses this machine's packages, or those of the sysroot, whose file names get the sysroot's folder as a
# prefix.
native=$(dpkg --print-architecture 2>/dev/null || true)
places=()
if [ "$debian" != "$native" ] && [ -f "$sysroot/var/lib/dpkg/status" ]; then
  cp -r "$sysroot/var/lib/dpkg" "$stage/dpkg"
  sed -i "s|^/|$sysroot/|" "$stage"/dpkg/info/*.list
  places=(--admindir="$PWD/$stage/dpkg" -l"$sysroot/usr/lib/$arch-linux-gnu" -l"$sysroot/lib/$arch-linux-gnu")
fi
if [ "$debian" = "$native" ] || [ ${#places[@]} -gt 0 ] && command -v dpkg-shlibdeps >/dev/null; then
  mkdir -p "$stage/debian"
  : >"$stage/debian/control"
  # dpkg-shlibdeps calls dpkg-query, which reads this variable.
  [ ${#places[@]} = 0 ] || export DPKG_ADMINDIR=$PWD/$stage/dpkg
  needed=$(cd "$stage" && DEB_HOST_ARCH=$debian dpkg-shlibdeps -O --ignore-missing-info "${places[@]}" -lroot/usr/lib/handloom root/usr/bin/handloom "${library#"$stage/"}" 2>shlibdeps.log |
    sed 's/^shlibs:Depends=//; s/, /\n/g')
  unset DPKG_ADMINDIR
  grep -q '^libssl' <<<"$needed" || fail "dpkg-shlibdeps finds no libraries: $(cat "$stage/shlibdeps.log")"
  while read -r name relation; do
    is_declared "$name" "$relation" || foreign+=("$name${relation:+ $relation}")
  done <<<"$needed"
fi
for_whom="glibc $glibc or newer"
# Packages for other machines are built on Debian 12 or with its libraries; a newer system's build needs that system
# or newer.
if [ "$is_old_enough" = no ] || [ ${#foreign[@]} -gt 0 ]; then
  if [ "$system" = "debian 12" ] || [ "$target" != "$host" ]; then
    [ "$is_old_enough" = yes ] || fail "needs glibc $glibc, more than 2.34: $(readelf -W --dyn-syms "$binary" "$library" | grep -o "[^ ]*@GLIBC_$glibc" | tr '\n' ' ')"
    fail "dpkg-shlibdeps wants $(printf "'%s' " "${foreign[@]}")which cross/package/depends lacks"
  fi
  [ -n "${needed:-}" ] || fail "needs glibc $glibc, and dpkg-shlibdeps is not here to find the dependencies: apt-get install dpkg-dev, or build on Debian 12"
  log "this is $system, not Debian 12: depends are what dpkg-shlibdeps finds here"
  # Keeps the declared packages that are not libraries.
  pack "$(printf '%s\n' "$declared" | grep -v '^lib'; printf '%s\n' "$needed")"
  for_whom="for $system and newer alone, glibc $glibc"
fi
if command -v lintian >/dev/null; then
  # The overrides are for Debian 12's lintian; another version may report more.
  if [ "$system" = "debian 12" ]; then
    lintian --fail-on error,warning "$package" || fail "lintian finds faults"
  else
    lintian "$package" || log "lintian of $system reports this; only that of Debian 12 decides"
  fi
fi
[ -n "${needed:-}" ] || log "dependencies not checked: no dpkg-shlibdeps, or no $sysroot (cross/sysroot.sh)"
log "$package: $(stat -c %s "$package") bytes, binary $bytes bytes, $for_whom"
