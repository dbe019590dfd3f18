#!/bin/bash
# Produces faults on this machine, one after the other, and says which of them `apm doctor` finds, with the right rule and
# the right culprit, within 3 seconds; and states that look bad but are not, which must give no warning. Where the finding
# advises a command, that command is run as it is printed, and apm looks again: the finding must be gone, or less.
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
# and of the advice, one of these wherever an expected finding has a command:
#   # follow RULE [PART]      run the first command of RULE (that contains PART), then look again
#   # looks RULE [PART]       that command only shows something: it must succeed and print a line
#   # unfollowed REASON       why no script can follow it
#   # settles SECONDS         wait so long before the second look; 1 where absent
#   # outside                 run the command without doctor_prefix: on the host, where the doctor looks into a namespace
#   # terminal                the command asks questions: on a terminal, answered with y
# `then_NAME`, if there is such a function, does after the command what the words beside it ask for; it has the command in
# $advice and what it printed in $scratch/advice.
# A function starts its fault in the background and returns when it is there. It has:
#   undo 'COMMAND'            run at the end, the last first
#   setting PATH VALUE        of /proc/sys/PATH, put back at the end
#   keeps PATH                of /proc/sys/PATH, which the advice changes: put back at the end
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
keeps() { undo "printf %s '$(tr '\t' ' ' <"/proc/sys/$1")' >/proc/sys/$1"; }
setting() {
    keeps "$1"
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

look() { # look REPORT: apm doctor as this fault wants it
    # shellcheck disable=SC2086 # areas are words
    "${doctor_prefix[@]}" "$apm" doctor $areas --format json --fail-on never "${doctor_words[@]}" >"$1" 2>"$scratch/error"
}

# follow NOTES EXPECTED: does what the finding advises and looks again. Prints what came of it; 0 good, 1 bad.
follow() {
    local notes=$1 kind rule part code followed=0
    export EXPECTED=$2
    if [ -z "$(python3 "$here/judge.py" advice "$scratch/report")" ]; then return 0; fi
    if grep -q '^# unfollowed ' <<<"$notes"; then return 0; fi
    while read -r kind rule part; do
        followed=1
        advice=$(python3 "$here/judge.py" advice "$scratch/report" "$rule" "$part")
        if [ -z "$advice" ]; then echo "$rule advises no command${part:+ with $part}"; return 1; fi
        local run=("${doctor_prefix[@]}" timeout 20 bash -c "$advice")
        if grep -q '^# outside' <<<"$notes"; then run=(timeout 20 bash -c "$advice"); fi
        if grep -q '^# terminal' <<<"$notes"; then
            printf 'y\n%.0s' {1..50} | timeout 20 script -qec "$advice" "$scratch/advice" >/dev/null 2>&1
        else
            PATH="$(dirname "$apm"):$PATH" "${run[@]}" >"$scratch/advice" 2>&1 </dev/null
        fi
        code=$?
        if [ $code != 0 ] && [ "$(type -t "then_$name")" != function ]; then
            echo "\`$advice\`: exit code $code: $(head -c 200 "$scratch/advice")"
            return 1
        fi
        if [ "$kind" = looks ]; then
            if [ ! -s "$scratch/advice" ]; then echo "\`$advice\` prints nothing"; return 1; fi
            echo "\`$advice\` shows $(wc -l <"$scratch/advice") lines"
            continue
        fi
        if [ "$(type -t "then_$name")" = function ]; then "then_$name" || { echo "then_$name failed"; return 1; }; fi
        local settles
        settles=$(sed -n 's/^# settles //p' <<<"$notes")
        sleep "${settles:-1}"
        look "$scratch/again"
        local became
        became=$(python3 "$here/judge.py" again "$scratch/report" "$scratch/again" "$rule")
        code=$?
        echo "\`$advice\`: $became"
        [ $code = 0 ] || return 1
    done < <(sed -n 's/^# \(follow\|looks\) /\1 /p' <<<"$notes")
    if [ $followed = 0 ]; then
        echo "it advises a command, and nothing here says whether that helps: $(python3 "$here/judge.py" advice "$scratch/report")"
        return 1
    fi
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
    doctor_prefix=() doctor_words=() advice=''
    trap undo_all EXIT
    # shellcheck source=/dev/null
    . "$here/$file.sh"
    if ! "$function"; then row skipped "$name" - "${why:-cannot be made here}"; return 2; fi
    local began ended
    began=$(date +%s.%N)
    look "$scratch/report"
    ended=$(date +%s.%N)
    EXPECTED=$expected WITHIN=${within:-3} python3 "$here/judge.py" "$scratch/report" "${function%%_*}" "$level" "$began" "$ended" >"$scratch/verdict"
    local code=$?
    if [ $code = 0 ] && [ "${function%%_*}" = fault ]; then
        follow "$notes" "$expected" >"$scratch/followed"
        code=$?
    fi
    undo_all
    rm -f "$scratch/undo"
    IFS=$'\t' read -r state seconds what <"$scratch/verdict"
    row "$state" "$name" "$seconds" "$what"
    if [ -s "$scratch/followed" ]; then
        while IFS= read -r line; do row "$([ $code = 0 ] && echo helped || echo 'NO HELP')" "" "" "$line"; done <"$scratch/followed"
    fi
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
