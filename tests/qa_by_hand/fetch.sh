#!/bin/sh
# Fetches real projects that nobody here wrote into a folder: from crates.io, PyPI and Debian's source packages.
# Needs cargo, pip, and apt-get with deb-src lines (as root they are added to a list of their own).
set -eu
target=${1:?usage: fetch.sh FOLDER}
mkdir -p "$target"
cd "$target"

crate() { # crate NAME VERSION: as cargo has it, without its lock file's dependencies
    [ -d "$1" ] && return
    mkdir fetch-crate
    (
        cd fetch-crate
        cargo init --quiet --vcs none --name fetch-crate .
        cargo add --quiet "$1@=$2"
        cargo fetch --quiet
    )
    rm -rf fetch-crate
    cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$2" "$1"
    rm -f "$1/Cargo.lock" "$1/Cargo.toml.orig"
}

sdist() { # sdist NAME VERSION
    [ -d "$1" ] && return
    pip3 download --quiet --no-deps --no-binary :all: --no-build-isolation --dest . "$1==$2" ||
        pip3 download --quiet --no-deps --no-binary :all: --dest . "$1==$2"
    tar xf "$1-$2.tar.gz"
    mv "$1-$2" "$1"
}

debian() { # debian NAME
    [ -d "$1" ] && return
    if [ "$(id -u)" = 0 ] && ! apt-cache showsrc "$1" >/dev/null 2>&1; then
        # shellcheck disable=SC1091 # the name of the release
        . /etc/os-release
        echo "deb-src http://deb.debian.org/debian ${VERSION_CODENAME:-bookworm} main" >/etc/apt/sources.list.d/apm-src.list
        apt-get update -qq
    fi
    apt-get source --download-only -qq "$1" >/dev/null
    mkdir "$1"
    # A native package has one archive, any other its authors' beside Debian's own.
    archive=$(ls "$1"_*.orig.tar.* 2>/dev/null || ls "$1"_*.tar.*)
    tar xf "$archive" -C "$1" --strip-components=1
}

crate either 1.15.0
sdist pluggy 1.6.0
debian golang-github-google-uuid
debian debootstrap
