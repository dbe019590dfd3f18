# shellcheck shell=bash disable=SC2015,SC2016,SC2034,SC2154 # read by run.sh; words for other shells
# Faults of memory, inside control groups where they would disturb others, and states that only look like one.

# mem_group NAME BYTES: a control group with a memory limit, v1 or v2; its folder in $MEM_GROUP.
mem_group() {
    local base
    if base=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ {print $2; exit}' /proc/mounts) && [ -n "$base" ]; then
        MEM_GROUP=$base/$1
        mkdir "$MEM_GROUP" && echo "$2" >"$MEM_GROUP/memory.limit_in_bytes" || return 1
    else
        base=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
        { [ -n "$base" ] && grep -qw memory "$base/cgroup.controllers"; } || { why='no memory controller'; return 1; }
        echo +memory >"$base/cgroup.subtree_control" 2>/dev/null
        MEM_GROUP=$base/$1
        mkdir "$MEM_GROUP" && echo "$2" >"$MEM_GROUP/memory.max" || { why='no memory controller here'; return 1; }
    fi
    # The killed take a moment to go.
    undo "for i in 1 2 3 4 5 6 7 8 9; do xargs -r kill -9 <$MEM_GROUP/cgroup.procs; sleep 0.1; rmdir $MEM_GROUP && break; done"
}

# mem_in_group COMMAND...: in the background, in $MEM_GROUP.
mem_in_group() {
    start bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$MEM_GROUP" "$@"
}

# Ends by itself: even where nobody undoes it nothing stays.
mem_python() {
    printf 'import signal,sys,time,os,mmap,random\nsignal.alarm(25)\n%s\n' "$1"
}

# mem_file PATH SIZE: a file of noise of which nothing is in memory, so that who reads it pays for it.
mem_file() {
    head -c "$2" /dev/urandom >"$1" && sync "$1" && dd if="$1" iflag=nocache count=0 status=none
}

# expect mem.cgroup_oom apm-fault-oom
# expect mem.oom_recent
# level crit
# needs root python3
# follow mem.cgroup_oom memory
fault_killed_by_limit() {
    # Half as much again is enough for it.
    mem_group apm-fault-oom $((160 << 20)) || return 1
    mem_in_group bash -c 'for i in $(seq 60); do python3 -c "b = bytearray(200 << 20)"; sleep 0.2; done'
    sleep 0.3
}

# expect mem.cgroup_near apm-fault-near
# expect mem.cgroup_near python3
# needs root python3
# follow mem.cgroup_near kill
fault_near_limit() {
    mem_group apm-fault-near $((200 << 20)) || return 1
    mem_in_group python3 -c "$(mem_python 'b = b"x" * (180 << 20); time.sleep(20)')"
    sleep 1.5
}

# More pages of files than the limit holds, read at random: many have to come from the disk again. The kernel does
# not call it pressure on memory, since no page was used often.
# expect mem.majfault python3
# expect mem.majfault apm-fault-thrash
# needs root python3
# follow mem.majfault memory
# settles 3
fault_thrash_in_limit() {
    mem_group apm-fault-thrash $((80 << 20)) || return 1
    mem_file "$scratch/data" 112M
    mem_in_group python3 -c "$(mem_python '
f = open(sys.argv[1], "rb"); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); m.madvise(mmap.MADV_RANDOM)
n = len(m) // 4096
while True: m[random.randrange(n) * 4096]')" "$scratch/data"
    sleep 1
}

# expect mem.swapin python3
# expect mem.refault python3
# expect mem.psi apm-fault-swap
# expect mem.cgroup_high apm-fault-swap
# needs root python3 mkswap swapon
# follow mem.cgroup_high memory
# settles 3
fault_swap_thrash() {
    mem_group apm-fault-swap $((100 << 20)) || return 1
    head -c 400M /dev/zero >"$scratch/swap" && chmod 600 "$scratch/swap" && mkswap -q "$scratch/swap" >/dev/null 2>&1
    swapon "$scratch/swap" 2>/dev/null || { why='no swap on this kernel'; return 1; }
    # It does not go off while the process that uses it is dying.
    undo "for i in 1 2 3 4 5 6 7 8 9; do swapoff $scratch/swap && break; sleep 0.3; done; rm -f $scratch/swap"
    mem_in_group python3 -c "$(mem_python '
os.fork()
m = mmap.mmap(-1, 65 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
n = len(m) // 4096
while True: m[random.randrange(n) * 4096] = 1')"
    sleep 3
}

# expect mem.leak python3
# needs python3
# within 8
# follow mem.leak pmap
fault_leak() {
    start python3 -c "$(mem_python '
b = []
for i in range(60): b.append(b"x" * (30 << 20)); time.sleep(0.1)')"
    doctor_words=(--duration 5s)
    sleep 0.5
}
# "Or restart it."
then_leak() {
    kill "$pid"
}

# expect mem.shm_tmpfs apm-fault-files
# needs root
# follow mem.shm_tmpfs du
fault_files_in_ram() {
    mkdir "$scratch/apm-fault-files" && mount -t tmpfs -o size=1g tmpfs "$scratch/apm-fault-files" || return 1
    undo "umount -l $scratch/apm-fault-files"
    head -c 900M /dev/zero >"$scratch/apm-fault-files/file"
    # A quarter of a large machine would take the memory of others.
    doctor_words=(--threshold mem.shm_tmpfs=2:50)
}
then_files_in_ram() {
    grep -q apm-fault-files/file "$scratch/advice" && rm "$scratch/apm-fault-files/file"
}

# expect mem.hugepages_idle
# needs root
# unsafe
# follow mem.hugepages_idle nr_hugepages
fault_huge_pages_idle() {
    local before
    before=$(cat /proc/sys/vm/nr_hugepages 2>/dev/null) || { why='no huge pages'; return 1; }
    undo "echo $before >/proc/sys/vm/nr_hugepages"
    echo $((before + 500)) >/proc/sys/vm/nr_hugepages
    doctor_words=(--threshold mem.hugepages_idle=1:)
}

# Sockets full of messages that nobody reads: objects of the kernel that cannot be dropped.
# expect mem.slab kmalloc
# needs root python3
# follow mem.slab slabtop
fault_kernel_objects() {
    start python3 -c "$(mem_python '
import resource, socket
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for i in range(1200):
    for s in socket.socketpair():
        s.setblocking(False); kept.append(s)
    for s in kept[-2:]:
        try:
            while True: s.send(b"x")
        except OSError: pass
time.sleep(20)')"
    sleep 2.5
    # A tenth of a large machine would be in the way of others.
    doctor_words=(--threshold mem.slab=1:25)
}
then_kernel_objects() {
    grep -q kmalloc "$scratch/advice" && kill "$pid"
}

# Memory full of files: used, and to be had at once.
# needs root
# expect mem.available
# expect mem.psi
# expect mem.refault
# expect mem.direct_reclaim
# expect mem.cgroup_near
calm_page_cache() {
    head -c 1500M /dev/zero >"$scratch/cache"
    start bash -c "cat $scratch/cache $scratch/cache >/dev/null; sleep 10"
    sleep 0.3
}

# A group that reads files larger than its limit meets the limit all the time, and nobody waits for memory.
# needs root
# expect mem.cgroup_near
# expect mem.cgroup_high
# expect mem.psi
# expect mem.majfault
calm_files_in_limit() {
    mem_group apm-calm-files $((100 << 20)) || return 1
    mem_file "$scratch/cache" 400M
    mem_in_group bash -c "for i in 1 2 3 4 5 6 7 8 9; do cat $scratch/cache >/dev/null; done"
    sleep 0.5
}

# Half of a limit in use, and a kill of long ago in the counters.
# needs root python3
# expect mem.cgroup_near
# expect mem.cgroup_oom
calm_killed_before() {
    mem_group apm-calm-oom $((128 << 20)) || return 1
    mem_in_group bash -c 'python3 -c "b = bytearray(300 << 20)"; exec python3 -c "
import signal,time
signal.alarm(20); b = b\"x\" * (50 << 20); time.sleep(20)"'
    sleep 1.5
}

# Much is promised and little of it used.
# needs python3
# expect mem.commit
# expect mem.available
calm_promised() {
    start python3 -c "$(mem_python '
m = [mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000) for i in range(10)]; time.sleep(20)')"
    sleep 0.5
}

# No memory is promised twice, and a process has been promised nearly all of it.
# expect mem.commit python3
# level crit
# needs root python3
# unsafe
# follow mem.commit overcommit_ratio
fault_promised_out() {
    local committed
    committed=$(awk '/^Committed_AS/ {print $2}' /proc/meminfo)
    start python3 -c "$(mem_python 'm = mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); time.sleep(20)')"
    sleep 0.5
    # Each of the two zeroes the other.
    undo "echo $(cat /proc/sys/vm/overcommit_ratio) >/proc/sys/vm/overcommit_ratio"
    setting vm/overcommit_kbytes $(((committed + (4 << 20)) * 101 / 100)) && setting vm/overcommit_memory 2
}

# Files fill the memory faster than the kernel can make room, and processes that want some have to make it themselves.
# expect mem.direct_reclaim
# needs root python3
# unsafe
# follow mem.direct_reclaim watermark
fault_direct_reclaim() {
    truncate -s "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)K" "$scratch/sparse"
    cat "$scratch/sparse" >/dev/null
    setting vm/min_free_kbytes 1024 && setting vm/watermark_scale_factor 1 || return 1
    for _ in 1 2 3 4 5 6; do start sh -c 'while :; do cat "$0" >/dev/null; done' "$scratch/sparse"; done
    sleep 0.5
}

# A segment that nobody has mapped any more.
# expect mem.shm_tmpfs segment
# expect mem.shm_tmpfs
# needs root python3 ipcmk ipcrm
# unsafe
# follow mem.shm_tmpfs ipcrm
fault_orphan_segment() {
    local bytes id
    bytes=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) * 1024 * 30 / 100))
    id=$(ipcmk -M $bytes | grep -o '[0-9]*$')
    undo "ipcrm -m $id"
    python3 -c "
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype, libc.shmat.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
ctypes.memset(libc.shmat($id, None, 0), 1, $bytes)"
}

# Memory with a descriptor and without a name.
# expect mem.shm_tmpfs python3
# needs root python3
# unsafe
# follow mem.shm_tmpfs memfd
fault_memory_without_a_name() {
    local bytes
    bytes=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) * 1024 * 30 / 100))
    start python3 -c "$(mem_python "
fd = os.memfd_create('apm'); chunk = b'x' * (1 << 20)
for _ in range($bytes >> 20): os.write(fd, chunk)
time.sleep(20)")"
    for _ in $(seq 60); do
        [ "$(awk '/^Shmem:/ {print $2}' /proc/meminfo)" -gt $((bytes / 1100)) ] && break
        sleep 0.25
    done
}
then_memory_without_a_name() {
    grep -q memfd:apm "$scratch/advice" && kill "$pid"
}

# Swap in use and nobody wants it back.
# needs root python3 mkswap swapon
# expect mem.swapin
# expect mem.swap_used
calm_swap_used() {
    mem_group apm-calm-swap $((60 << 20)) || return 1
    head -c 200M /dev/zero >"$scratch/swap" && chmod 600 "$scratch/swap" && mkswap -q "$scratch/swap" >/dev/null 2>&1
    swapon "$scratch/swap" 2>/dev/null || { why='no swap on this kernel'; return 1; }
    # It does not go off while the process that uses it is dying.
    undo "for i in 1 2 3 4 5 6 7 8 9; do swapoff $scratch/swap && break; sleep 0.3; done; rm -f $scratch/swap"
    mem_in_group python3 -c "$(mem_python 'b = b"x" * (120 << 20); time.sleep(20)')"
    sleep 2
}
