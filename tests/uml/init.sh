#!/bin/sh
# The first process inside User Mode Linux: the host's files, and a cgroup v2 that is all ours. Three runs of apm: in the
# root group, as a user alone in a group that was given to him, and beside another process in a group with a limit.
# GUEST_DIR comes from the kernel's command line: the plans and apm are there, the reports go there.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs tmp /mnt
cp -r "$GUEST_DIR/work/." /mnt
cd /mnt || exit 1
export HOME=/mnt TMPDIR=/mnt APM_STATE_DIR=/mnt/state
groups=/sys/fs/cgroup

apm() { # apm NAME ARG...: apm's report, what it says, and what it leaves in the groups
    name=$1
    shift
    "$@" -o "json=/mnt/$name.json" >"/mnt/$name.txt" 2>&1
    echo "code $?" >>"/mnt/$name.txt"
    find $groups -name 'apm-*' >>"/mnt/$name.txt"
    cp "/mnt/$name.json" "/mnt/$name.txt" "$GUEST_DIR"
}

apm root ./apm run limits.yaml -j3

mkdir $groups/given $groups/shared
echo '+memory +cpu +pids' >$groups/cgroup.subtree_control
echo 500M >$groups/given/memory.max
chown 65534 $groups/given $groups/given/cgroup.procs $groups/given/cgroup.subtree_control
chown -R 65534 /mnt
apm given sh -c "echo 0 >$groups/given/cgroup.procs; exec setpriv --reuid 65534 --regid 65534 --clear-groups \"\$@\"" - \
    ./apm run memory.yaml

# The state directory is believed by its owner only.
chown -R 0 /mnt
echo 500M >$groups/shared/memory.max
sh -c "echo 0 >$groups/shared/cgroup.procs; exec sleep 100" &
apm shared sh -c "echo 0 >$groups/shared/cgroup.procs; exec \"\$@\"" - ./apm run memory.yaml

sync
echo o >/proc/sysrq-trigger
sleep 5
