#!/usr/bin/env bash
# Boots a Debian 12 with systemd as PID 1, installs the .deb of `make deb` and runs scenario.py on it.
# usage: tests/boot/run.sh       as root; needs systemd-container, mmdebstrap, mosquitto; ten minutes on two cores
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "boot: run as root: it boots a system in systemd-nspawn" >&2; exit 1; }
missing=()
for pair in systemd-nspawn:systemd-container mmdebstrap:mmdebstrap mosquitto:mosquitto mosquitto_sub:mosquitto-clients; do
  PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "boot: installing ${missing[*]}"
  apt-get -q update </dev/null >/dev/null
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y install --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi
work=target/boot
mkdir -p "$work"
tree=$work/debian-12.tar
if [ ! -f "$tree" ]; then
  echo "boot: making a Debian 12 with what the package depends on"
  gst=gstreamer1.0-plugins-base,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad,gstreamer1.0-libav
  mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
  mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=systemd-sysv,dbus,udev,python3-minimal,libgstreamer-plugins-base1.0-0,$gst \
    bookworm "${tree%.tar}.part.tar" "deb $mirror bookworm main" \
    "deb ${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security} bookworm-security main"
  mv "${tree%.tar}.part.tar" "$tree"
fi
# Packs the same build as a newer package, for the upgrade.
rm -f "$work"/handloom*.deb
DEB_REVISION=2 cross/deb.sh
mv target/deb/handloom*-2_amd64.deb "$work"/
exec python3 tests/boot/scenario.py "$work"
