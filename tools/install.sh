#!/bin/sh
# Puts what developers need into .tools/, which git ignores; the system is left alone but for packages of the
# distribution that are missing, and each of those is announced. Done once, it returns at once.
#
#   tools/install.sh build    what compiling and testing need: cargo, a C linker, curl
#   tools/install.sh nats     .tools/nats-server-2.15.1 and .tools/nats-server-debian, both for the tests
#   tools/install.sh firewall nft, ufw and what else the tests of the firewall need; no service is started
#   tools/install.sh apache   Apache's program and its WebDAV, for the tests
#   tools/install.sh deny     .tools/cargo-deny-0.20.2
#   tools/install.sh vm       what virtual machines need, packages of the distribution: several, none started
set -eu
cd "$(dirname "$0")/.."
mkdir -p .tools

say() { echo "tools: $*" >&2; }

as_root() {
    say "running as root: $*"
    if [ "$(id -u)" = 0 ]; then "$@" >&2; else sudo "$@" >&2; fi
}

# apt_install PACKAGE: from the distribution, announced.
apt_install() {
    command -v apt-get >/dev/null || { say "$1 is missing; install it with this system's package manager"; exit 1; }
    fresh_lists "$1"
    apt_get "$1" || { as_root apt-get update -q; apt_get "$1"; }
}

# apt_get PACKAGE: where the lists are older than the archive, they name files that are gone: then it fails.
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1"
}

# The tests of the firewall bring hosts of their own; ufw's package would start a service, on this very machine.
firewall() {
    for pair in nft:nftables ufw:ufw ip:iproute2 setpriv:util-linux; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || no_services apt_install "${pair#*:}"
    done
}

# no_services COMMAND…: no package that it installs starts a service meanwhile.
no_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
    trap 'as_root rm -f "$policy"' EXIT INT TERM
    "$@"
    as_root rm -f "$policy"
    trap - EXIT INT TERM
}

# fresh_lists PACKAGE: apt knows it, after an update if need be.
fresh_lists() {
    [ -n "$(apt-cache madison "$1" 2>/dev/null)" ] || as_root apt-get update -q
}

# scratch: a directory of this run, gone at its end.
scratch() {
    tmp=$(mktemp -d .tools/.new.XXXXXX)
    trap 'rm -rf "$tmp"' EXIT
}

# place FILE NAME: an executable, there whole or not at all.
place() {
    chmod 755 "$1"
    mv "$1" ".tools/$2"
    say "installed .tools/$2"
}

# wheel REQUIREMENTS EXECUTABLE: a program out of a Python package whose hash is pinned.
wheel() {
    name=$2-$(sed -n 's/^[^#].*==\([0-9.]*\).*/\1/p' "tools/$1")
    [ ! -x ".tools/$name" ] || return 0
    python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip
    scratch
    python3 -m pip -q download --no-deps --only-binary :all: --require-hashes -r "tools/$1" -d "$tmp" >&2
    python3 -m zipfile -e "$tmp"/*.whl "$tmp"
    rm -f .tools/"$2"-[0-9]*
    place "$tmp"/*.data/scripts/"$2" "$name"
    rm -rf "$tmp"
}

# The distribution's nats-server, taken out of its package: installing that would start a service.
debian_nats() {
    [ ! -x .tools/nats-server-debian ] || return 0
    command -v apt-get >/dev/null || { say "no apt-get here: the tests run without Debian's nats-server"; return 0; }
    fresh_lists nats-server
    scratch
    (cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download nats-server >&2 && dpkg-deb -x ./*.deb .)
    place "$(find "$tmp" -type f -path '*bin/nats-server')" nats-server-debian
    rm -rf "$tmp"
}

# Apache with its modules, without the package that would make a service of it: the tests start their own.
apache() {
    [ ! -x /usr/sbin/apache2 ] || return 0
    apt_install apache2-bin
}

build() {
    command -v cargo >/dev/null || { say "cargo is missing: install Rust as rustup.rs says, then run this again"; exit 1; }
    command -v cc >/dev/null || apt_install build-essential
    # A test runs the user-data's own commands.
    command -v curl >/dev/null || apt_install curl
}

# User-Mode Linux, what builds its image, and the servers of the lab. Debian would start Samba and Apache.
vm() {
    missing=
    for package in user-mode-linux uml-utilities mmdebstrap xorriso e2fsprogs openssh-client openssl iproute2 nftables \
        samba apache2 binutils; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    for package in $missing; do no_services apt_install "$package"; done
}

case ${1:-} in
    build) build ;;
    firewall) firewall ;;
    nats) wheel nats-server.txt nats-server; debian_nats ;;
    vm) vm ;;
    apache) apache ;;
    deny) wheel cargo-deny.txt cargo-deny ;;
    *) sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
esac
