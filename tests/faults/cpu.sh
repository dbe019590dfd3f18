# shellcheck shell=bash disable=SC2015,SC2016,SC2034,SC2154 # read by run.sh, which sets some of them
# Faults of the CPUs, each some seconds long, and busy machines that are well.

# cpu_start COMMAND...: in the background with all it starts, ended with all of it; its pid in $pid.
cpu_start() {
    # stress-ng wants to write where it works.
    cd "$scratch" || return
    setsid "$@" >"$scratch/out" 2>&1 &
    pid=$!
    disown
    undo "kill -KILL -- -$pid"
}

# cpu_loop COUNT NAME: so many processes of that name that do nothing but run, for 15 seconds of CPU time at most.
cpu_loop() {
    local count=$1
    # The kernel names a process after its file; another start of another program would take a second on a full machine.
    cp "$(readlink -f /bin/sh)" "$scratch/$2"
    for ((; count > 0; count--)); do cpu_start "$scratch/$2" -c 'ulimit -t 15; while :; do :; done'; done
    sleep 0.3
}

# cpu_sources COUNT: a folder of small C files with a Makefile.
cpu_sources() {
    local i
    mkdir -p "$scratch/src"
    for ((i = 0; i < $1; i++)); do
        { echo '#include <stdio.h>'; for j in 1 2 3 4 5 6 7 8; do echo "int f${i}_$j(int x) { printf(\"%d\", x + $j); return x * $j; }"; done; } >"$scratch/src/f$i.c"
    done
    # shellcheck disable=SC2016 # make's own variables
    printf 'all: $(patsubst %%.c,%%.o,$(wildcard f*.c))\n%%.o: %%.c\n\tgcc -O2 -c $< -o $@\n' >"$scratch/src/Makefile"
}

# expect cpu.runq cc1
# expect cpu.psi make
# needs gcc make
# unsafe
# follow cpu.runq MAKEFLAGS
fault_eight_jobs_a_cpu() {
    cpu_sources 1500
    cpu_start timeout 20 make -s -C "$scratch/src" -j $(($(nproc) * 8))
    sleep 0.7
}
# Builds that are started from the same shell afterwards.
then_eight_jobs_a_cpu() {
    kill -KILL -- "-$pid"
    eval "$advice"
    cpu_start timeout 20 make -s -C "$scratch/src"
}

# expect cpu.runq apm-loop
# expect cpu.psi apm-loop
# unsafe
# follow cpu.runq renice
fault_eight_loops_a_cpu() {
    cpu_loop $(($(nproc) * 8)) apm-loop
}

# expect cpu.runq stress-ng
# needs stress-ng
# unsafe
# follow cpu.runq renice
fault_four_stressors_a_cpu() {
    cpu_start stress-ng --cpu $(($(nproc) * 4)) --timeout 15 --quiet
    sleep 0.5
}

# expect cpu.forks apm-threads
# level info
# needs python3
# unsafe
fault_threads_come_and_go() {
    cpu_start python3 -c 'import ctypes, signal, threading
signal.alarm(15)
ctypes.CDLL(None).prctl(15, b"apm-threads", 0, 0, 0)
while True:
    one = threading.Thread(target=int)
    one.start()
    one.join()'
    sleep 0.5
}

# Four loops a CPU that yield to everybody.
# expect cpu.psi
# expect cpu.runq
# unsafe
calm_nice_loops() {
    local count
    cp "$(readlink -f /bin/sh)" "$scratch/apm-nice"
    for ((count = $(nproc) * 4; count > 0; count--)); do
        cpu_start nice -n 19 "$scratch/apm-nice" -c 'ulimit -t 15; while :; do :; done'
    done
    sleep 0.3
}

# expect cpu.one_core apm-pinned
# needs taskset
# follow cpu.one_core taskset
fault_three_on_one_cpu() {
    [ "$(nproc)" -gt 1 ] || { why='one CPU'; return 1; }
    cpu_loop 3 apm-pinned
    for it in $(pgrep -f "$scratch/apm-pinned"); do taskset -pc 0 "$it" >/dev/null; done
    sleep 0.3
}

# expect cpu.one_core apm-single
# level info
# needs taskset
fault_one_thread() {
    [ "$(nproc)" -gt 1 ] || { why='one CPU'; return 1; }
    cpu_loop 1 apm-single
    taskset -pc 0 "$pid" >/dev/null
}

# One pair only: on Linux 6.18 a pair a CPU keeps every new process, apm too, from its first turn for seconds. On a fast
# machine one pair stays below the usual threshold.
# expect cpu.ctxt stress-ng
# needs stress-ng
fault_switches() {
    doctor_words=(--threshold cpu.ctxt=15000:)
    cpu_start stress-ng --switch 1 --timeout 15 --quiet
    sleep 0.5
}

# expect cpu.sys dd
# looks cpu.sys profile
fault_kernel_time() {
    for ((i = 0; i < $(nproc); i++)); do cpu_start timeout 15 dd if=/dev/zero of=/dev/null bs=64k; done
    sleep 0.3
}

# Who waits for a child made by vfork sleeps as if for a disk; so many that the load of a minute rises soon.
# expect cpu.load_d apm-hang
# needs gcc
# looks cpu.load_d wchan
fault_load_of_sleepers() {
    cat >"$scratch/hang.c" <<'C'
#include <unistd.h>
int main(int count, char **words) {
    alarm(60);
    for (int i = 0; i < 25 * count * CPUS; i++)
        if (fork() == 0 && (alarm(60), vfork()) == 0) { alarm(60); for (;;) pause(); }
    pause();
}
C
    gcc -DCPUS="$(nproc)" -o "$scratch/apm-hang" "$scratch/hang.c" || return 1
    cpu_start "$scratch/apm-hang"
    # The kernel takes part of it into the load every five seconds.
    for ((i = 0; i < 120; i++)); do
        awk -v cpus="$(nproc)" '{exit !($1 > 2.5 * cpus)}' /proc/loadavg && return 0
        sleep 0.25
    done
}

# expect cpu.forks apm-forks
fault_forks() {
    printf '#!/bin/sh\ni=0; while [ $i -lt 40000 ]; do /bin/true; i=$((i + 1)); done\n' >"$scratch/apm-forks"
    chmod +x "$scratch/apm-forks"
    for ((i = 0; i < $(nproc); i++)); do cpu_start timeout 15 "$scratch/apm-forks"; done
    sleep 0.3
}

# expect cpu.nice apm-realtime
# needs root chrt
# follow cpu.nice chrt
fault_realtime() {
    cpu_loop 1 apm-realtime
    chrt -f -p 10 "$pid" 2>/dev/null || { why='no real-time priorities here'; return 1; }
}

# cpu_group QUOTA_US: a control group with a CPU quota of a period of 100 ms, v1 or v2; its folder in $CPU_GROUP.
cpu_group() {
    local base
    if base=$(awk '$3 == "cgroup" && $4 ~ /(^|,)cpu(,|$)/ {print $2; exit}' /proc/mounts) && [ -n "$base" ]; then
        CPU_GROUP=$base/apm-fault-quota
        mkdir "$CPU_GROUP" && echo "$1" >"$CPU_GROUP/cpu.cfs_quota_us" || { why='no CPU quota here'; return 1; }
    else
        base=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
        echo +cpu >"$base/cgroup.subtree_control" 2>/dev/null
        CPU_GROUP=$base/apm-fault-quota
        mkdir "$CPU_GROUP" && echo "$1 100000" >"$CPU_GROUP/cpu.max" || { why='no CPU quota here'; return 1; }
    fi
    undo "for i in 1 2 3 4 5 6 7 8 9; do xargs -r kill -9 <$CPU_GROUP/cgroup.procs; sleep 0.1; rmdir $CPU_GROUP && break; done"
}

# expect cpu.throttle apm-fault-quota
# needs root
# follow cpu.throttle
fault_quota() {
    cpu_group 20000 && cpu_loop 1 apm-quota && echo "$pid" >"$CPU_GROUP/cgroup.procs"
    sleep 0.3
}

# expect cpu.quota_vs_nproc apm-fault-quota
# needs root
# unfollowed what it exports is for builds that are started later; the quota stays below nproc
fault_quota_below_nproc() {
    [ "$(nproc)" -gt 1 ] || { why='one CPU'; return 1; }
    cpu_group 60000 || return 1
    # shellcheck disable=SC2016 # the inner shell's
    doctor_prefix=(bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$CPU_GROUP")
}

# expect cpu.psi
# expect cpu.runq
# expect cpu.sys
# expect cpu.forks
# needs gcc make
calm_one_job_a_cpu() {
    cpu_sources 1500
    cpu_start timeout 20 make -s -C "$scratch/src" -j "$(nproc)"
    sleep 0.7
}

# expect cpu.psi
# expect cpu.runq
# expect cpu.util
calm_one_loop_a_cpu() {
    cpu_loop "$(nproc)" apm-busy
}

# Half of the window at most: a burst.
# expect cpu.psi
# expect cpu.runq
# needs stress-ng
calm_burst() {
    cpu_start stress-ng --cpu $(($(nproc) * 8)) --timeout 1 --quiet
    sleep 0.2
}

# The load of a minute is high, but those that made it have gone.
# expect cpu.load_d
# expect cpu.psi
# expect cpu.runq
# needs stress-ng
# unsafe
calm_load_that_is_over() {
    stress-ng --cpu $(($(nproc) * 30)) --timeout 8 --quiet >/dev/null 2>&1
    sleep 0.5
}
