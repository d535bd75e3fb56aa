#!/bin/sh
# Builds the guest image of `make vm` below .tools/vm/, once for each set of its inputs, and prints its directory:
#
#   base.img      Debian 12 with cloud-init, for User-Mode Linux; guests write to copies on write
#   id            the ssh key that opens every guest
#   box.crt .key  the certificate of the StorageBox that guests trust
#   xstate.so     what the host's linux.uml loads first (tools/uml-xstate.c)
#
# Inputs: this script, tools/uml-xstate.c, tests/vm/rootfs (laid over the guest's files), the kernel's version. Needs root.
set -eu
# One of the user's own is not there inside the image.
unset TMPDIR
cd "$(dirname "$0")/.."

# What a cloud image has that our user-data relies on: cloud-init, curl, certificates, and a network.
PACKAGES=systemd-sysv,systemd-timesyncd,dbus,cloud-init,iproute2,iputils-ping,curl,ca-certificates,netplan.io
PACKAGES=$PACKAGES,openssh-server,util-linux,procps,kmod,python3-minimal,udev,nftables
# What the classic user-data installs; their packages lie in the image, so that no download counts.
CLASSIC="cifs-utils jq"
# Where the guests find the StorageBox.
BOX=fd77::1

say() { echo "vm: $*" >&2; }

key=$({ cat "$0" tools/uml-xstate.c; find tests/vm/rootfs -type f -print -exec cat {} + | sort; dpkg-query -W user-mode-linux; } |
    sha256sum | cut -c1-16)
image=$PWD/.tools/vm/$key
[ ! -e "$image/base.img" ] || { echo "$image"; exit 0; }

say "building the guest image $image (a few minutes, once)"
mkdir -p .tools/vm
tmp=$(mktemp -d "$PWD/.tools/vm/.new.XXXXXX")
trap 'rm -rf "$tmp"' EXIT INT TERM
root=$tmp/root
modules=$(echo /usr/lib/uml/modules/*)

certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=box.test \
        -addext "subjectAltName=DNS:box.test,IP:$BOX" -addext basicConstraints=critical,CA:FALSE \
        -keyout "$tmp/box.key" -out "$tmp/box.crt" 2>/dev/null
    chmod 600 "$tmp/box.key"
    cp "$tmp/box.crt" "$root/usr/local/share/ca-certificates/box.crt"
    chroot "$root" update-ca-certificates >&2
}

# The classic user-data's packages as a repository of files.
classic() {
    cache=$root/opt/classic
    mkdir -p "$cache"
    # shellcheck disable=SC2086 # a list of names
    chroot "$root" apt-get install -y -q --download-only --no-install-recommends \
        -o Dir::Cache::archives=/opt/classic $CLASSIC >&2
    rm -rf "$cache/partial" "$cache/lock"
    for deb in "$cache"/*.deb; do
        dpkg-deb -f "$deb"
        echo "Filename: ./${deb##*/}"
        echo "Size: $(stat -c %s "$deb")"
        echo "SHA256: $(sha256sum "$deb" | cut -d' ' -f1)"
        echo
    done >"$cache/Packages"
    echo "deb [trusted=yes] file:/opt/classic ./" >"$root/etc/apt/sources.list"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
}

guest() {
    cp -r tests/vm/rootfs/. "$root"
    mkdir -p "$root/lib/modules" "$root/var/log/journal"
    cp -r "$modules" "$root/lib/modules/"
    chroot "$root" depmod "${modules##*/}"
    : >"$root/etc/machine-id"
    : >"$root/etc/fstab"
    printf '127.0.0.1 localhost\n::1 localhost\n%s box.test\n' "$BOX" >"$root/etc/hosts"
    # cloud-init makes it on a real image; there is nobody to ask.
    : >"$root/etc/resolv.conf"
    ssh-keygen -q -t ed25519 -N '' -C lab -f "$tmp/id"
    install -D -m 600 "$tmp/id.pub" "$root/root/.ssh/authorized_keys"
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
        fstrim.timer systemd-timesyncd.service systemd-binfmt.service getty@tty1.service \
        modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
        modprobe@fuse.service modprobe@loop.service systemd-pstore.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    chroot "$root" systemctl --quiet enable systemd-networkd
    chroot "$root" systemctl --quiet set-default multi-user.target
}

cc -O2 -Wall -shared -fPIC -o "$tmp/xstate.so" tools/uml-xstate.c
mmdebstrap --quiet --variant=minbase --include="$PACKAGES" --skip=cleanup/apt/lists bookworm "$root" >&2
certificate
classic
guest
truncate -s 2G "$tmp/base.img"
mke2fs -q -t ext4 -O ^metadata_csum -L root -d "$root" "$tmp/base.img"
rm -rf "$root"
# Only the newest is kept.
find "$PWD/.tools/vm" -mindepth 1 -maxdepth 1 ! -path "$tmp" -exec rm -rf {} +
chmod 755 "$tmp"
mv "$tmp" "$image"
echo "$image"
