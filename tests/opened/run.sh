#!/bin/sh
# Every file that any command opens, makes, changes or removes, watched over the integration tests: each call of apm has to
# keep one of the rules of src/sys/mod.rs, and there is no list of exceptions (tests/opened/check.py says what the rules are
# in system calls). Needs strace and python3. The whole suite takes some eight minutes on two cores.
#   tests/opened/run.sh                 all integration tests
#   tests/opened/run.sh config:: tune   those whose name contains one of these
# strace is the one tracer that a process may have, so that the tests of sampling by ptrace fail here: what counts is the
# trace, the result of the tests is only shown. OPENED_TRACE=FILE keeps the trace.
set -eu
cd "$(dirname "$0")/../.."
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
trap 'exit 1' INT TERM HUP
trace=${OPENED_TRACE:-$temporary/trace}

cargo test --locked --test it --no-run
opens=open,openat,openat2,creat
changes=unlink,unlinkat,rmdir,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,truncate,mknod,mknodat
modes=chmod,fchmodat,chown,lchown,fchownat
who=execve,execveat,clone,clone3,fork,vfork,lstat,newfstatat,statx,fsmount
# In the background of a shell interrupts are ignored, and apm leaves them so.
env --default-signal=INT,QUIT \
    strace -f --seccomp-bpf -y -s 4096 --signal=none -e "trace=$opens,$changes,$modes,$who" -o "$trace" \
    cargo test --locked --test it -- "$@" >"$temporary/tests" 2>&1 || true
grep '^test .*FAILED$' "$temporary/tests" || true
grep '^test result' "$temporary/tests"
whole=''
[ $# -gt 0 ] || whole=--whole
# shellcheck disable=SC2086 # nothing, or one word
python3 tests/opened/check.py $whole "$trace"
