#!/bin/sh
# `make vm`: the scenarios on virtual machines (tests/src/bin/vm), in namespaces of their own. When this ends, by
# itself or interrupted, the kernel ends everything in them: guests, servers, networks, mounts.
#
#   tools/vm.sh [SCENARIO…]      all that are there, or those named
set -eu
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "vm: namespaces, taps and mounts need root: run it as root" >&2; exit 1; }
image=$(tools/vm-image.sh)
# What the laptop of the scenarios trusts.
export SSL_CERT_FILE="$image/box.crt"
# The first process of a process namespace ignores the keyboard unless it says otherwise: the shell says so.
exec unshare --mount --net --pid --fork --kill-child --mount-proc sh -c '
    trap "exit 130" INT TERM HUP
    mount -t tmpfs -o size=8G,mode=0755 tmpfs /mnt
    target/debug/vm "$@" &
    wait $!
' vm /mnt "$image" "$PWD/target/vm/kept" "$@"
