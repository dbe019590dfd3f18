#!/bin/bash
# Produces faults on this machine, one after the other, and says which of them `apm doctor` finds, with the right rule and
# the right culprit, within 3 seconds; and states that look bad but are not, which must give no warning.
#
# usage: tests/faults/run.sh [--safe] [--format text|markdown] [NAME...]
#   --safe   leave out what disturbs others on the machine (marked `# unsafe`)
#   NAME     only these, for instance `mem_thrash` or all of one file: `mem`
#
# The faults are functions in the other files of this folder. Comments above a function say:
#   # expect RULE [CULPRIT]   the rule that must speak, and a part of the name of who causes it; several lines: each of them
#   # level warn|crit|info    how loud at least; warn where absent
#   # needs root PROGRAM...   else it is skipped, which under CI (CI=1) counts as a failure
#   # unsafe                  not run with --safe
#   # within SECONDS         how long apm may take; 3 where absent
#   # areas AREA...           words for apm doctor, where its default does not look
# A function starts its fault in the background and returns when it is there. It has:
#   undo 'COMMAND'            run at the end, the last first
#   setting PATH VALUE        of /proc/sys/PATH, put back at the end
#   start COMMAND...          in the background, ended at the end; its pid in $pid
#   doctor_prefix=(...)       words before apm, for instance (ip netns exec NAME)
#   doctor_words=(...)        more words for apm doctor
# `fault_*` must be found, `calm_*` must give no warning of the rules it names with `# expect`, or of any without.
set -u
here=$(cd "$(dirname "$0")" && pwd)
apm=${APM:-}
if [ -z "$apm" ]; then # the newest that was built
    for candidate in "$here"/../../target/{release,debug}/apm "$here"/../../target/*/{release,debug}/apm; do
        if [ -x "$candidate" ] && { [ -z "$apm" ] || [ "$candidate" -nt "$apm" ]; }; then apm=$candidate; fi
    done
fi
[ -x "$apm" ] || { echo "build apm first: cargo build --release" >&2; exit 2; }
safe=0 format=text names=()
while [ $# -gt 0 ]; do
    case $1 in
        --safe) safe=1 ;;
        --format) format=$2; shift ;;
        -*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
        *) names+=("$1") ;;
    esac
    shift
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

undo() { printf '%s\n' "$1" >>"$scratch/undo"; }
start() { "$@" >"$scratch/out" 2>&1 & pid=$!; disown; undo "kill $pid 2>/dev/null; kill -9 $pid 2>/dev/null"; }
setting() {
    undo "printf %s '$(tr '\t' ' ' <"/proc/sys/$1")' >/proc/sys/$1"
    { printf %s "$2" >"/proc/sys/$1"; } 2>/dev/null || { why="$1 cannot be set"; return 1; }
}
undo_all() { [ -f "$scratch/undo" ] && tac "$scratch/undo" | while IFS= read -r line; do eval "$line"; done >/dev/null 2>&1; }

wanted() { # wanted FILE NAME
    [ ${#names[@]} -eq 0 ] && return 0
    for name in "${names[@]}"; do [ "$name" = "$1" ] || [ "$name" = "$2" ] && return 0; done
    return 1
}

row() { # row STATE NAME SECONDS WHAT
    if [ "$format" = markdown ]; then printf '| %s | %s | %s | %s |\n' "$@"; else printf '%-8s %-28s %6s  %s\n' "$@"; fi
}

one() { # one FILE FUNCTION: runs it in a shell of its own, prints a row, returns 0 good, 1 bad, 2 skipped
    local file=$1 function=$2 name=${2#*_}
    local notes
    notes=$(awk -v f="$function" '/^# /{n=n $0 "\n"; next} $0 ~ "^"f"\\(\\)"{printf "%s", n; exit} {n=""}' "$here/$file.sh")
    local expected level areas needs
    expected=$(sed -n 's/^# expect //p' <<<"$notes")
    level=$(sed -n 's/^# level //p' <<<"$notes"); level=${level:-warn}
    areas=$(sed -n 's/^# areas //p' <<<"$notes")
    needs=$(sed -n 's/^# needs //p' <<<"$notes")
    local within
    within=$(sed -n 's/^# within //p' <<<"$notes")
    if [ $safe = 1 ] && grep -q '^# unsafe' <<<"$notes"; then row left "$name" - 'disturbs others'; return 0; fi
    for need in $needs; do
        if [ "$need" = root ]; then [ "$(id -u)" = 0 ] || { row skipped "$name" - 'needs root'; return 2; }
        elif ! command -v "$need" >/dev/null; then row skipped "$name" - "needs $need"; return 2; fi
    done
    scratch=$work/$name
    mkdir -p "$scratch"
    doctor_prefix=() doctor_words=()
    trap undo_all EXIT
    # shellcheck source=/dev/null
    . "$here/$file.sh"
    if ! "$function"; then row skipped "$name" - "${why:-cannot be made here}"; return 2; fi
    local began ended
    began=$(date +%s.%N)
    # shellcheck disable=SC2086 # areas are words
    "${doctor_prefix[@]}" "$apm" doctor $areas --format json "${doctor_words[@]}" >"$scratch/report" 2>"$scratch/error"
    ended=$(date +%s.%N)
    undo_all
    rm -f "$scratch/undo"
    EXPECTED=$expected WITHIN=${within:-3} python3 "$here/judge.py" "$scratch/report" "${function%%_*}" "$level" "$began" "$ended" >"$scratch/verdict"
    local code=$?
    IFS=$'\t' read -r state seconds what <"$scratch/verdict"
    row "$state" "$name" "$seconds" "$what"
    [ $code = 0 ] || { sed 's/^/    /' "$scratch/error" | head -3; }
    return $code
}

good=0 bad=0 skipped=0
[ "$format" = markdown ] && printf '| | fault | seconds | found |\n|---|---|---|---|\n'
for path in "$here"/*.sh; do
    file=$(basename "$path" .sh)
    [ "$file" = run ] && continue
    mapfile -t functions < <(sed -n 's/^\(\(fault\|calm\)_[a-z0-9_]*\)().*/\1/p' "$path")
    for function in "${functions[@]}"; do
        wanted "$file" "${function#*_}" || continue
        (one "$file" "$function")
        case $? in 0) good=$((good + 1)) ;; 2) skipped=$((skipped + 1)) ;; *) bad=$((bad + 1)) ;; esac
    done
done
echo
echo "$good as expected, $bad not, $skipped skipped"
[ $bad = 0 ] && { [ $skipped = 0 ] || [ -z "${CI:-}" ]; }
