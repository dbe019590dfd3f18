# shellcheck shell=bash disable=SC2015,SC2016,SC2034,SC2154 # read by run.sh, which sets some of them
# Faults of processes and limits.

# process_python NAME CODE: a process of that name, gone after 20 seconds whatever happens.
process_python() {
    printf 'import ctypes,os,signal,socket,sys,threading,time\nsignal.alarm(20)\nctypes.CDLL(None).prctl(15, b"%s", 0, 0, 0)\n%s\n' "$1" "$2" >"$scratch/$1.py"
    start python3 "$scratch/$1.py"
    sleep 0.5
}

# expect proc.fd apm-leak
# level crit
# needs python3
# follow proc.fd prlimit
fault_files_leak() {
    process_python apm-leak 'import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
held = [open("/dev/null") for _ in range(245)]
time.sleep(20)'
}

# expect sys.fd apm-holder
# level crit
# needs root python3
# unsafe
# follow sys.fd file-max
fault_files_of_the_machine() {
    process_python apm-holder 'import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
held = [open("/dev/null") for _ in range(10000)]
time.sleep(20)'
    setting fs/file-max $(($(cut -f1 /proc/sys/fs/file-nr) * 100 / 97))
}

# A user at the limit of his processes.
# expect proc.pids sleep
# needs root python3 setpriv
# unsafe
fault_user_at_his_limit() {
    start setpriv --reuid=54321 --regid=54321 --clear-groups bash -c 'ulimit -u 60; for n in $(seq 59); do sleep 20 & done; wait'
    sleep 1
}

# expect proc.zombies apm-parent
# needs python3
# follow proc.zombies kill
fault_zombies() {
    process_python apm-parent 'for _ in range(40):
    if os.fork() == 0: os._exit(0)
time.sleep(20)'
}

# A tool within a tool that wants the lock of the outer one.
# expect proc.lock flock
# needs flock
# follow proc.lock kill
fault_lock_within_lock() {
    start setsid flock "$scratch/lock" sh -c "flock $scratch/lock true; :"
    undo "kill -KILL -- -$pid"
    sleep 0.3
}

# The same as developers meet it: a build script that builds.
# expect proc.lock cargo
# needs cargo
# follow proc.lock kill
fault_cargo_within_cargo() {
    mkdir -p "$scratch/src"
    printf '[package]\nname = "nested"\nversion = "0.1.0"\nedition = "2021"\n' >"$scratch/Cargo.toml"
    echo 'fn main() {}' >"$scratch/src/main.rs"
    echo 'fn main() { std::process::Command::new("cargo").arg("check").status().unwrap(); }' >"$scratch/build.rs"
    start setsid env CARGO_TARGET_DIR="$scratch/target" cargo check --offline --manifest-path "$scratch/Cargo.toml"
    undo "kill -KILL -- -$pid"
    for ((i = 0; i < 100; i++)); do
        if grep -q -e '-> FLOCK' /proc/locks; then break; fi
        sleep 0.2
    done
}

# expect proc.lock apm-holder
# needs flock python3
# follow proc.lock CONT
fault_lock_of_one_stopped() {
    process_python apm-holder "import fcntl
held = open('$scratch/lock', 'w')
fcntl.flock(held, fcntl.LOCK_EX)
os.kill(os.getpid(), 19)"
    start flock "$scratch/lock" true
    sleep 0.3
}

# As cargo waits for cargo.
# expect proc.lock
# needs flock
calm_lock_of_one_at_work() {
    start setsid flock "$scratch/lock" sh -c 'while :; do :; done'
    undo "kill -KILL -- -$pid"
    start flock "$scratch/lock" true
    sleep 0.3
}

# expect proc.inotify apm-watcher
# level crit
# needs python3
# follow proc.inotify max_user_instances
fault_inotify_instances() {
    process_python apm-watcher 'libc = ctypes.CDLL(None)
while libc.inotify_init1(0) >= 0: pass
time.sleep(20)'
    keeps fs/inotify/max_user_instances
}

# process_group MOST: a control group with a limit of processes; its folder in $PIDS_GROUP.
process_group() {
    local base
    if base=$(awk '$3 == "cgroup" && $4 ~ /(^|,)pids(,|$)/ {print $2; exit}' /proc/mounts) && [ -n "$base" ]; then
        PIDS_GROUP=$base/apm-fault-pids
    else
        base=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
        echo +pids >"$base/cgroup.subtree_control" 2>/dev/null
        PIDS_GROUP=$base/apm-fault-pids
    fi
    mkdir "$PIDS_GROUP" && echo "$1" >"$PIDS_GROUP/pids.max" || { why='no limit of processes here'; return 1; }
    undo "for i in 1 2 3 4 5 6 7 8 9; do xargs -r kill -9 <$PIDS_GROUP/cgroup.procs; sleep 0.1; rmdir $PIDS_GROUP && break; done"
}

# expect proc.pids apm-fault-pids
# level crit
# needs root python3
# follow proc.pids pids.max
fault_forks_refused() {
    process_group 30 || return 1
    process_python apm-forker 'time.sleep(0.4)
def one():
    while True: time.sleep(20)
while True:
    try:
        if threading.active_count() < 40: threading.Thread(target=one, daemon=True).start()
        else: time.sleep(0.05)
    except RuntimeError: time.sleep(0.05)'
    echo "$pid" >"$PIDS_GROUP/cgroup.procs"
    sleep 0.7
}

# expect proc.pids apm-fault-pids
# needs root python3
# follow proc.pids pids.max
fault_group_nearly_full() {
    process_group 30 || return 1
    process_python apm-forker 'time.sleep(0.4)
for _ in range(26): threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
time.sleep(20)'
    echo "$pid" >"$PIDS_GROUP/cgroup.procs"
    sleep 0.7
}

# Ended at once and taken away a little later, again and again: there are always some, never the same.
# expect proc.zombies
# needs python3
calm_short_zombies() {
    process_python apm-parent 'while True:
    for _ in range(30):
        if os.fork() == 0: os._exit(0)
    time.sleep(0.3)
    for _ in range(30): os.wait()'
}

# expect proc.fd
# needs python3
calm_many_files() {
    process_python apm-many 'held = [open("/dev/null") for _ in range(600)]
time.sleep(20)'
}

# expect sys.clock
# expect sys.clocksource
calm_clock_of_a_guest() {
    grep -qw hypervisor /proc/cpuinfo || { why='a host of its own'; return 1; }
}
