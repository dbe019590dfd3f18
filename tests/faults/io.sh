# shellcheck shell=bash
# Faults of disks and file systems, made for real, and states that only look like one. Read by run.sh, which see.
# They work in $WORK, the folder of the runner.

WORK=${scratch:-$WORK}

# In the background as a group of its own, ended with all that it started.
io_background() {
    setsid "$@" >/dev/null 2>&1 &
    disown
    undo "kill -KILL -- -$! 2>/dev/null"
}

# io_needs FILE: what is no program.
# shellcheck disable=SC2034 # the runner says why
io_needs() {
    [ -e "$1" ] || { why="needs $1"; return 1; }
}

# io_image NAME MIB [MKFS OPTION...]: a file system in a file; its mount point is $WORK/NAME.
io_image() {
    local name=$1 size=$2
    shift 2
    truncate -s "${size}M" "$WORK/$name.img"
    mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,nodiscard "$@" "$WORK/$name.img"
    mkdir "$WORK/$name"
    IO_LOOP=$(losetup -f --show "$WORK/$name.img")
    undo "losetup -d $IO_LOOP"
    mount -o "${IO_OPTIONS:-rw}" "$IO_LOOP" "$WORK/$name"
    undo "umount -l $WORK/$name"
}

# A file system that cannot be written for a while is the slowest disk there is: a loop device in it hangs.
io_slow_loop() {
    io_image below 400
    truncate -s 300M "$WORK/below/disk"
    IO_SLOW=$(losetup -f --show "$WORK/below/disk")
    undo "losetup -d $IO_SLOW"
    dd if=/dev/zero of="$IO_SLOW" bs=1M count=200 oflag=direct status=none
}

# expect fs.full full
# needs root losetup mkfs.ext4
# follow fs.full du
fault_disk_full() {
    io_image full 64
    dd if=/dev/zero of="$WORK/full/file" bs=1M status=none 2>/dev/null
    sync -f "$WORK/full"
}
then_disk_full() {
    grep -q "$WORK/full" "$scratch/advice" && rm "$WORK/full/file"
}

# expect fs.full memory
# needs root
# follow fs.full du
fault_tmpfs_full() {
    mkdir "$WORK/memory"
    mount -t tmpfs -o size=32m tmpfs "$WORK/memory"
    undo "umount -l $WORK/memory"
    dd if=/dev/zero of="$WORK/memory/file" bs=1M status=none 2>/dev/null
    return 0
}
then_tmpfs_full() {
    grep -q "$WORK/memory" "$scratch/advice" && rm "$WORK/memory/file"
}

# expect fs.inodes few
# needs root losetup mkfs.ext4
# follow fs.inodes inodes
fault_no_inodes() {
    io_image few 32 -N 64
    local i=0
    while touch "$WORK/few/$((i += 1))" 2>/dev/null; do :; done
}
then_no_inodes() {
    grep -q "$WORK/few" "$scratch/advice" && rm "$WORK"/few/[0-9]*
}

# expect fs.fill_eta fills
# needs root losetup mkfs.ext4
# follow fs.fill_eta STOP
fault_disk_fills() {
    io_image fills 800
    io_background python3 -c "
import time
with open('$WORK/fills/file', 'wb', buffering=0) as file:
    for _ in range(75): file.write(bytes(10 << 20)); time.sleep(0.1)"
    sleep 0.5
}

# expect fs.readonly hurt
# needs root losetup mkfs.ext4
# follow fs.readonly umount
# terminal
fault_became_readonly() {
    IO_OPTIONS=errors=remount-ro io_image hurt 32
    io_needs "/sys/fs/ext4/${IO_LOOP#/dev/}/trigger_fs_error" || return
    echo provoked >"/sys/fs/ext4/${IO_LOOP#/dev/}/trigger_fs_error"
}

# expect fs.errors counted
# needs root losetup mkfs.ext4
# follow fs.errors umount
# terminal
fault_counted_errors() {
    IO_OPTIONS=errors=continue io_image counted 32
    io_needs "/sys/fs/ext4/${IO_LOOP#/dev/}/trigger_fs_error" || return
    echo provoked >"/sys/fs/ext4/${IO_LOOP#/dev/}/trigger_fs_error"
}

# Reads past the end of what is behind the device fail as those of a broken disk do.
# expect fs.errors loop
# needs root losetup
# looks fs.errors dmesg
fault_disk_errors() {
    truncate -s 8M "$WORK/broken.img"
    local loop
    loop=$(losetup -f --show "$WORK/broken.img")
    undo "losetup -d $loop"
    truncate -s 1M "$WORK/broken.img"
    io_background bash -c "for i in \$(seq 1 20); do dd if=$loop of=/dev/null bs=4k skip=1024 count=8 iflag=direct; sleep 0.3; done"
    sleep 0.3
}

# expect io.dstate touch
# needs root losetup mkfs.ext4 fsfreeze
# follow io.dstate stack
fault_frozen_file_system() {
    io_image frozen 32
    fsfreeze --freeze "$WORK/frozen"
    undo "fsfreeze --unfreeze $WORK/frozen"
    for i in 1 2 3 4 5 6; do io_background touch "$WORK/frozen/$i"; done
    sleep 0.2
}
# As the words beside the command say.
then_frozen_file_system() {
    fsfreeze --unfreeze "$WORK/frozen"
}

# expect io.await loop
# needs root losetup mkfs.ext4 fsfreeze
# follow io.await scheduler
fault_disk_is_silent() {
    io_slow_loop
    fsfreeze --freeze "$WORK/below"
    undo "fsfreeze --unfreeze $WORK/below"
    io_background dd if=/dev/zero of="$IO_SLOW" bs=64k count=4 oflag=direct conv=notrunc
    sleep 0.2
}
then_disk_is_silent() {
    fsfreeze --unfreeze "$WORK/below"
}

# expect io.await loop
# needs root losetup mkfs.ext4 fsfreeze fio
# looks io.await scheduler
fault_disk_is_slow() {
    io_slow_loop
    # A freeze that had begun ends after the process that asked for it is killed.
    undo "for i in 1 2 3 4 5 6; do sleep 0.1; fsfreeze --unfreeze $WORK/below; done"
    io_background bash -c "for i in \$(seq 1 50); do fsfreeze --freeze $WORK/below; sleep 0.15; fsfreeze --unfreeze $WORK/below; sleep 0.02; done"
    io_background fio --thread --name=slow --filename="$IO_SLOW" --rw=randwrite --bs=4k --size=100M --direct=1 --numjobs=8 \
        --rate_iops=15 --time_based --runtime=8
    sleep 1
}

# expect io.psi dd
# needs root
# follow io.psi throttle
fault_limited_by_cgroup() {
    io_needs /sys/fs/cgroup/blkio/blkio.throttle.write_bps_device || return
    local group=/sys/fs/cgroup/blkio/apm-fault-$$
    mkdir "$group"
    local device
    device=$(stat -c '%Hd:%Ld' "$WORK")
    undo "echo '$device 0' >$group/blkio.throttle.write_bps_device; sleep 0.5; rmdir $group"
    echo "$device 1048576" >"$group/blkio.throttle.write_bps_device"
    io_background bash -c "echo \$\$ >$group/cgroup.procs; exec dd if=/dev/zero of=$WORK/limited bs=1M count=20 oflag=direct"
    sleep 0.3
}

# expect io.psi fio
# needs fio
# unfollowed one program alone makes the crowd: that it goes last helps others only
fault_too_many_writers() {
    io_background fio --thread --name=crowd --directory="$WORK" --rw=randwrite --bs=4k --size=16M --numjobs=24 --fsync=1 \
        --time_based --runtime=8
    # fio lays its files out first.
    sleep 2.5
}

# expect fs.deleted_open python3
# needs python3
# follow fs.deleted_open
fault_deleted_but_open() {
    io_background python3 -c "
import os, time
f = os.open('$WORK/ghost', os.O_RDWR | os.O_CREAT)
os.posix_fallocate(f, 0, 1200 << 20)
os.unlink('$WORK/ghost')
time.sleep(60)"
    io_holder=$!
    sleep 0.5
}
# "Restart the process."
then_deleted_but_open() {
    kill "$io_holder"
}

# Many small ones, behind many descriptors of other kinds.
# expect fs.deleted_open python3
# needs python3
# follow fs.deleted_open
fault_many_deleted_but_open() {
    io_background python3 -c "
import os, resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [socket.socket() for _ in range(1000)]
for n in range(300):
    f = os.open('$WORK/ghost', os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(f, 0, 8 << 20)
    os.unlink('$WORK/ghost')
time.sleep(60)"
    io_holder=$!
    sleep 1
}
then_many_deleted_but_open() {
    kill "$io_holder"
}

# A FUSE mount whose process never reads a request.
# expect fs.network hanging
# needs root python3
# follow fs.network umount
fault_fuse_hangs() {
    io_needs /dev/fuse || return
    mkdir "$WORK/hanging"
    undo "umount -l $WORK/hanging"
    # Ended first: with its process gone the mount answers with an error and can be taken away.
    io_background python3 -c "
import ctypes, os, sys, time
f = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={f},rootmode=40000,user_id=0,group_id=0,allow_other'.encode()
ctypes.CDLL(None).mount(b'never', b'$WORK/hanging', b'fuse.never', 0, options)
time.sleep(60)"
    sleep 0.5
}

# The process behind the mount has died.
# expect fs.network dead
# needs root python3
# follow fs.network umount
fault_fuse_is_dead() {
    io_needs /dev/fuse || return
    mkdir "$WORK/dead"
    python3 - "$WORK/dead" <<'PYTHON'
import ctypes, os, sys
f = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={f},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
ctypes.CDLL(None).mount(b"died", sys.argv[1].encode(), b"fuse.died", 0, options)
PYTHON
    undo "umount -l $WORK/dead"
}

# Less may be dirty than usual, so that a fault of this kind is short. Others on the machine write slower meanwhile.
# unsafe
# expect fs.dirty dd
# needs root losetup mkfs.ext4 fsfreeze
# looks fs.dirty dirty_bytes
fault_writers_held_back() {
    io_slow_loop
    mkfs.ext4 -q -F -m 0 "$IO_SLOW"
    mkdir "$WORK/held"
    mount "$IO_SLOW" "$WORK/held"
    undo "umount -l $WORK/held"
    fsfreeze --freeze "$WORK/below"
    undo "fsfreeze --unfreeze $WORK/below"
    undo "sysctl -qw vm.dirty_ratio=$(sysctl -n vm.dirty_ratio) vm.dirty_background_ratio=$(sysctl -n vm.dirty_background_ratio)"
    sysctl -qw vm.dirty_bytes=$((32 << 20)) vm.dirty_background_bytes=$((16 << 20))
    io_background dd if=/dev/zero of="$WORK/held/file" bs=1M count=200
    sleep 0.5
}

# One that reads without a pause from a disk that answers at once.
# expect io.psi
# expect io.await
# expect io.util
# needs fio
calm_busy_disk() {
    io_background fio --thread --name=busy --filename="$WORK/busy" --rw=randread --bs=4k --size=64M --direct=1 --time_based --runtime=8
    sleep 1.5
}

# expect io.psi
# expect io.await
# expect io.queue
# expect io.util
# needs fio
calm_deep_queue() {
    io_background fio --thread --name=deep --filename="$WORK/deep" --rw=randread --bs=4k --size=64M --direct=1 --ioengine=libaio \
        --iodepth=32 --time_based --runtime=8
    sleep 1.5
}

# expect fs.full
# expect fs.inodes
# expect fs.readonly
# needs root mksquashfs
calm_full_image() {
    mkdir "$WORK/from" "$WORK/image"
    head -c 4M /dev/urandom >"$WORK/from/file"
    mksquashfs "$WORK/from" "$WORK/image.sqfs" -quiet -no-progress >/dev/null
    mount -o loop,ro "$WORK/image.sqfs" "$WORK/image"
    undo "umount $WORK/image"
}

# expect fs.readonly
# expect fs.full
# needs root
calm_readonly_bind_mount() {
    mkdir "$WORK/bound"
    mount --bind /usr "$WORK/bound"
    undo "umount $WORK/bound"
    mount -o remount,bind,ro "$WORK/bound"
}

# A file system that its owner wants read-only.
# expect fs.readonly
# expect fs.errors
# needs root losetup mkfs.ext4
calm_mounted_readonly() {
    io_image calm 16
    mount -o remount,ro "$WORK/calm"
}

# expect io.psi
# expect io.await
# expect fs.dirty
# expect fs.fill_eta
calm_short_burst() {
    io_background dd if=/dev/zero of="$WORK/burst" bs=1M count=300
}

# expect io.psi
# expect io.await
# expect fs.dirty
calm_page_cache() {
    head -c 200M /dev/zero >"$WORK/cached"
    io_background bash -c "for i in 1 2 3 4 5 6; do cat $WORK/cached >/dev/null; sleep 0.3; done"
}

# expect fs.deleted_open
# needs python3
calm_small_deleted_file() {
    io_background python3 -c "
import os, time
f = os.open('$WORK/small', os.O_RDWR | os.O_CREAT)
os.posix_fallocate(f, 0, 100 << 20)
os.unlink('$WORK/small')
time.sleep(20)"
    sleep 0.3
}

# expect fs.tmp_small tmp
# needs root
# follow fs.tmp_small TMPDIR
fault_small_tmp() {
    mkdir "$scratch/tmp"
    if ! mount -t tmpfs -o size=200m apm-fault-tmp "$scratch/tmp"; then
        # shellcheck disable=SC2034 # read by run.sh
        why='cannot mount'
        return 1
    fi
    undo "umount $scratch/tmp"
    # shellcheck disable=SC2034 # read by run.sh
    doctor_prefix=(env TMPDIR="$scratch/tmp")
}
# shellcheck disable=SC2034,SC2154 # of run.sh
then_small_tmp() {
    eval "$advice"
    doctor_prefix=()
}

# Paused containers are in the state of stuck tasks.
# expect io.dstate
# needs root
calm_paused_group() {
    io_needs /sys/fs/cgroup/freezer || return
    local group=/sys/fs/cgroup/freezer/apm-calm-$$
    mkdir "$group"
    undo "sleep 0.2; rmdir $group"
    io_background sleep 60
    echo $! >"$group/cgroup.procs"
    echo FROZEN >"$group/freezer.state"
    undo "echo THAWED >$group/freezer.state"
    sleep 0.2
}

# A parent that used vfork waits in the same state until its child runs a program.
# expect io.dstate
# needs python3
calm_vfork() {
    io_background python3 -c "
import ctypes, time
libc = ctypes.CDLL(None)
if libc.syscall(58) == 0:
    libc.sleep(4)
    libc._exit(0)"
    sleep 0.2
}
