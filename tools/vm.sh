#!/bin/sh
# `make vm`: the scenarios on virtual machines (tests/src/bin/vm), in namespaces of their own. When this ends, by
# itself or interrupted, the kernel ends everything in them: guests, servers, networks, mounts.
#
#   tools/vm.sh [SCENARIO…]      those named, one after another; or all that are played unasked, in two lanes at once
set -eu
cd "$(dirname "$0")/.."

# Namespaces, taps, mounts and the building of the image need root.
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "vm: namespaces, taps and mounts need root: run it as root" >&2; exit 1; }
    echo "vm: namespaces, taps and mounts need root: going on by sudo" >&2
    exec sudo --preserve-env=FOREST_TEST_NATS,FOREST_VM_ROUNDS,FOREST_VM_SEED "$0" "$@"
fi
image=$(tools/vm-image.sh)
# What the laptop of the scenarios trusts.
export SSL_CERT_FILE="$image/box.crt"

# lane [WORD…]: the scenarios that the words choose, in place of this shell.
lane() {
    exec unshare --mount --net --pid --fork --kill-child --mount-proc sh -c '
        mount -t tmpfs -o size=8G,mode=0755 tmpfs /mnt
        target/debug/vm "$@" &
        wait $!
    ' vm /mnt "$image" "$PWD/target/vm/kept" "$@"
}

# unshare blocks INT and TERM while it waits, and jobs in the background ignore INT: only KILL ends a lane, and
# by --kill-child everything in its process namespace with it.
first=
end() {
    for lane in $first "${!-}"; do
        [ -z "$lane" ] || kill -KILL "$lane" 2>/dev/null || true
    done
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

failed=0
if [ $# -gt 0 ]; then
    lane "$@" &
    wait $! || failed=$?
else
    # Most of a scenario is waiting: for a boot, an outage, a patience. What the second lane says comes after the
    # first's.
    mkdir -p target/vm
    said=target/vm/second-lane.log
    lane --lane 1 &
    first=$!
    lane --lane 2 >"$said" 2>&1 &
    wait "$first" || failed=1
    first=
    wait $! || failed=1
    cat "$said"
fi
# Both have ended: their numbers may be others' by now.
trap - EXIT
exit "$failed"
