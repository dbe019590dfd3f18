#!/bin/sh
# Installs apm, its completions, its man pages and the licences. Never calls sudo: run it as a user who may write to the prefix.
# All files are written beside their places first and renamed when all are there: a full disk, a signal or a folder
# that cannot be written leaves what was installed before.
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

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
line_break='
'
prefix=''
binary=''
url=''
sum=''
uninstall=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --binary | --url | --sha256)
        [ -n "${2:-}" ] || fail "$1 needs a value"
        case $1 in
        --prefix) prefix=$2 ;;
        --binary) binary=$2 ;;
        --url) url=$2 ;;
        --sha256) sum=$(printf %s "$2" | tr 'A-F' 'a-f') ;;
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
[ -z "$binary" ] || [ -z "$url" ] || fail '--binary and --url exclude each other'
[ $uninstall = no ] || [ -z "$binary$url$sum" ] || fail '--uninstall goes with --prefix only'
if [ -n "$url" ]; then
    [ -n "$sum" ] || fail '--url needs --sha256: what is downloaded is checked'
    case $url in
    https://*) ;;
    *) fail "--url takes https:// only, not $url" ;;
    esac
fi

user=$(id -u)
# As root for everyone, whatever its umask. A user's own folders are as that user wants them.
[ "$user" != 0 ] || umask 022
if [ -z "$prefix" ]; then
    if [ "$user" = 0 ]; then
        prefix=/usr/local
    else
        prefix=${HOME:?is not set; name a folder with --prefix}/.local
    fi
fi
case $prefix in
*"$line_break"*) fail 'a folder with a line break in its name is not a prefix' ;;
/*) ;;
*) prefix=$PWD/$prefix ;;
esac

work=''
folder=''
new=''
staged='' # two lines for each file: where it lies until all are there, its place
clean() {
    rm -rf "$work"
    rm -f "$new"
    printf %s "$staged" | while read -r path && read -r place; do rm -f "$path"; done
}
trap clean EXIT
trap 'exit 1' HUP INT QUIT PIPE TERM

# Makes a folder and those above it up to the prefix. Where another user may write, that user could put a link there, or
# another apm for root to run: as root, such a folder is refused.
make() {
    [ "$1" = "$prefix" ] || make "${1%/*}"
    if [ ! -d "$1/" ]; then
        [ $uninstall = no ] || return 0
        mkdir -p "$1/" || fail "cannot write to $prefix; choose another folder with --prefix"
    fi
    [ "$user" != 0 ] || [ -n "$(find "$1/." -prune -user 0 ! -perm -0002)" ] ||
        fail "$1 belongs to another user, or everybody may write to it; install as that user or choose another --prefix"
}

# Removes what killed installations left in a folder: their own names only, of this user, an hour old.
sweep() {
    [ ! -d "$1/" ] || find "$1/." -maxdepth 1 -type f -user "$user" -mmin +60 \
        -name '.apm.[0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z][0-9A-Za-z]' -exec rm -f {} +
}

# stage MODE FILE PLACE: writes a file beside its place.
stage() {
    if [ "$folder" != "${3%/*}" ]; then
        folder=${3%/*}
        make "$folder"
        sweep "$folder"
    fi
    [ ! -d "$3" ] || fail "$3 is a folder; nothing was installed"
    new=$(mktemp "$folder/.apm.XXXXXX") || fail "cannot write to $folder; nothing was installed"
    staged=$staged$new$line_break$3$line_break
    { cp -- "$2" "$new" && chmod "$1" "$new"; } || fail "cannot write to $folder; nothing was installed"
}

# Names the folders, the prefix without `..` and slashes at its end.
settle() {
    [ ! -d "$prefix/" ] || prefix=$(cd -- "$prefix/" && pwd)
    prefix=${prefix%/}
    bin=$prefix/bin
    bash_dir=$prefix/share/bash-completion/completions
    zsh_dir=$prefix/share/zsh/site-functions
    fish_dir=$prefix/share/fish/vendor_completions.d
    man_dir=$prefix/share/man/man1
    doc_dir=$prefix/share/doc/apm
}

if [ $uninstall = yes ]; then
    settle
    for folder in "$bin" "$bash_dir" "$zsh_dir" "$fish_dir" "$man_dir" "$doc_dir"; do
        make "$folder"
        sweep "$folder"
    done
    rm -f "$bin/apm" "$bash_dir/apm" "$zsh_dir/_apm" "$fish_dir/apm.fish" "$man_dir"/apm.1 "$man_dir"/apm-*.1
    rm -f "$doc_dir/LICENSE-APACHE" "$doc_dir/LICENSE-MIT" "$doc_dir/LICENSE-THIRD-PARTY"
    rmdir "$doc_dir" 2>/dev/null || true
    printf 'apm is gone from %s; recorded runs, if any, stay in %s\n' "${prefix:-/}" "${XDG_STATE_HOME:-~/.local/state}/apm"
    exit 0
fi

work=$(mktemp -d)
if [ -n "$url" ]; then
    if command -v curl >/dev/null 2>&1; then
        curl --fail --location --proto '=https' --silent --show-error --output "$work/apm" "$url" || fail "download of $url failed"
    elif command -v wget >/dev/null 2>&1; then
        wget --quiet --output-document="$work/apm" "$url" || fail "download of $url failed"
    else
        fail 'neither curl nor wget is installed'
    fi
elif [ -n "$binary" ]; then
    cp -- "$binary" "$work/apm" || fail "cannot copy $binary to $work"
else
    [ -f "$here/Cargo.toml" ] || fail 'no source beside this script; use --binary or --url'
    command -v cargo >/dev/null 2>&1 || fail 'cargo is not installed; https://rustup.rs installs it'
    # In the checkout, where a relative CARGO_TARGET_DIR counts from.
    (
        target=${CARGO_TARGET_DIR:-target}
        cd -- "$here" && host=$(rustc -vV | sed -n 's/^host: //p') &&
            cargo build --profile dist --locked --target "$host" --target-dir "$target" &&
            cp -- "$target/$host/dist/apm" "$work/apm"
    ) || fail 'the build failed'
fi
if [ -n "$sum" ]; then
    found=$(sha256sum <"$work/apm" | cut -d' ' -f1)
    [ "$found" = "$sum" ] || fail "the checksum is $found, expected $sum; nothing was installed"
fi

mkdir -p -- "$prefix" || fail "cannot write to $prefix; choose another folder with --prefix"
settle
stage 755 "$work/apm" "$bin/apm"
"$new" --version >/dev/null || fail 'the binary does not run on this machine; nothing was installed'
if [ -f "$here/completions/apm.bash" ]; then
    stage 644 "$here/completions/apm.bash" "$bash_dir/apm"
    stage 644 "$here/completions/_apm" "$zsh_dir/_apm"
    stage 644 "$here/completions/apm.fish" "$fish_dir/apm.fish"
    for page in "$here"/man/*.1; do
        stage 644 "$page" "$man_dir/${page##*/}"
    done
    for license in "$here"/LICENSE-*; do
        stage 644 "$license" "$doc_dir/${license##*/}"
    done
fi
# Through a rename: an apm that runs right now keeps its file, and a link is replaced, not followed. It takes no space and
# no signal comes between.
trap '' HUP INT QUIT PIPE TERM
printf %s "$staged" | while read -r new && read -r place; do
    mv -f "$new" "$place" || exit 1
done || fail "not everything could be installed in $prefix"

printf '%s is installed in %s\n' "$("$bin/apm" --version)" "$bin"
case ":$PATH:" in
*":$bin:"*) ;;
*) printf 'add it to your PATH: export PATH="%s:%sPATH"\n' "$bin" '$' ;;
esac
