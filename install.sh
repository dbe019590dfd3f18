#!/bin/sh
# Installs apm, its completions and its man pages. Never calls sudo: run it as a user who may write to the prefix.
set -eu

usage() {
    cat <<'EOF'
Usage: ./install.sh [--prefix DIR] [--binary FILE | --url URL] [--sha256 SUM] [--uninstall]

  --prefix DIR   install below DIR [default: /usr/local as root, else ~/.local]
  --binary FILE  install this binary instead of building from source
  --url URL      download the binary; needs --sha256
  --sha256 SUM   checksum that the binary must have
  --uninstall    remove what an installation with this prefix has put there

Without --binary and --url it builds from the checkout it lies in, with cargo.
EOF
}

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
prefix=''
binary=''
url=''
sum=''
uninstall=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --binary | --url | --sha256)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
        --prefix) prefix=$2 ;;
        --binary) binary=$2 ;;
        --url) url=$2 ;;
        --sha256) sum=$2 ;;
        esac
        shift 2
        ;;
    --uninstall)
        uninstall=yes
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) fail "unknown option $1; --help lists them" ;;
    esac
done

if [ -z "$prefix" ]; then
    if [ "$(id -u)" = 0 ]; then
        prefix=/usr/local
    else
        prefix=${HOME:?is not set; name a folder with --prefix}/.local
    fi
fi

bash_dir=$prefix/share/bash-completion/completions
zsh_dir=$prefix/share/zsh/site-functions
fish_dir=$prefix/share/fish/vendor_completions.d
man_dir=$prefix/share/man/man1

if [ "$uninstall" = yes ]; then
    for page in "$man_dir"/apm.1 "$man_dir"/apm-*.1; do
        rm -f "$page"
    done
    rm -f "$prefix/bin/apm" "$bash_dir/apm" "$zsh_dir/_apm" "$fish_dir/apm.fish"
    printf 'apm is gone from %s; recorded runs, if any, stay in %s\n' "$prefix" "${XDG_STATE_HOME:-~/.local/state}/apm"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -n "$url" ]; then
    [ -n "$sum" ] || fail "--url needs --sha256: what is downloaded is checked"
    if command -v curl >/dev/null 2>&1; then
        curl --fail --location --proto '=https' --silent --show-error --output "$work/apm" "$url" || fail "download of $url failed"
    elif command -v wget >/dev/null 2>&1; then
        wget --quiet --output-document="$work/apm" "$url" || fail "download of $url failed"
    else
        fail 'neither curl nor wget is installed'
    fi
elif [ -n "$binary" ]; then
    cp "$binary" "$work/apm" || fail "cannot read $binary"
else
    [ -f "$here/Cargo.toml" ] || fail "no source beside this script; use --binary or --url"
    command -v cargo >/dev/null 2>&1 || fail 'cargo is not installed; https://rustup.rs installs it'
    (cd "$here" && cargo build --profile dist --locked) || fail 'the build failed'
    host=$(rustc -vV | sed -n 's/^host: //p')
    cp "${CARGO_TARGET_DIR:-$here/target}/$host/dist/apm" "$work/apm" || fail 'the build left no binary'
fi

if [ -n "$sum" ]; then
    found=$(sha256sum "$work/apm" | cut -d' ' -f1)
    [ "$found" = "$sum" ] || fail "the checksum is $found, expected $sum; nothing was installed"
fi
chmod 755 "$work/apm"
"$work/apm" --version >/dev/null || fail 'the binary does not run on this machine; nothing was installed'

mkdir -p "$prefix/bin" || fail "cannot write to $prefix; choose another with --prefix"
# Through a rename: an apm that runs right now keeps its file.
cp "$work/apm" "$prefix/bin/.apm.new" || fail "cannot write to $prefix/bin"
mv "$prefix/bin/.apm.new" "$prefix/bin/apm" || fail "cannot write to $prefix/bin"

if [ -d "$here/completions" ]; then
    mkdir -p "$bash_dir" "$zsh_dir" "$fish_dir" "$man_dir"
    cp "$here/completions/apm.bash" "$bash_dir/apm"
    cp "$here/completions/_apm" "$zsh_dir/_apm"
    cp "$here/completions/apm.fish" "$fish_dir/apm.fish"
    cp "$here"/man/*.1 "$man_dir/"
fi

printf '%s is installed in %s\n' "$("$prefix/bin/apm" --version)" "$prefix/bin"
case ":$PATH:" in
*":$prefix/bin:"*) ;;
*) printf 'add it to your PATH: export PATH="%s/bin:%sPATH"\n' "$prefix" '$' ;;
esac
