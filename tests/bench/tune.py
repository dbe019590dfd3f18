"""What settings that `apm tune` proposes are worth on this machine: the same work before and after, against the defaults
the machine has. Needs root, since it applies them and rolls them back, one after the other.

usage: tune.py PATH-OF-APM"""

import ctypes
import os
import resource
import subprocess
import sys
import time

APM = sys.argv[1]
LIBC = ctypes.CDLL(None, use_errno=True)


def apart(work):
    """The result of a function, in a process of its own."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, str(work()).encode())
        os._exit(0)
    os.close(write)
    text = b""
    while part := os.read(read, 4096):
        text += part
    os.close(read)
    os.wait()
    return float(text)


def watchers(wanted=500):
    """Programs that watch files, one instance each."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 100, wanted + 100))
    count = 0
    while count < wanted and LIBC.inotify_init1(0) >= 0:
        count += 1
    return count


def mappings(wanted=200_000):
    """Mappings of one process, as sanitizers and search servers make them."""
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    count = 0
    while count < wanted:
        # Neighbours with different rights are not joined.
        rights = 1 if count % 2 else 3
        if LIBC.mmap(None, 4096, rights, 0x22, -1, 0) in (None, ctypes.c_void_p(-1).value):
            break
        count += 1
    return count


def foreground():
    """Seconds that a fixed piece of work takes beside nice agents of another session."""
    loop = "while :; do :; done"
    crowd = f"for n in $(seq {4 * os.cpu_count()}); do nice -n 10 sh -c '{loop}' & done; wait"
    crowd = subprocess.Popen(["sh", "-c", crowd], start_new_session=True)
    time.sleep(0.5)
    began = time.monotonic()
    work = "i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done"
    workers = [f"({work}) &" for _ in range(os.cpu_count())]
    subprocess.run(["sh", "-c", " ".join(workers) + " wait"], start_new_session=True, check=True)
    took = time.monotonic() - began
    os.killpg(crowd.pid, 9)
    crowd.wait()
    return took


def files(wanted=30_000):
    """Connections an ordinary user can have open who logs in now: the soft limit is raised to the hard one."""
    code = ("import os,resource,socket\n"
            "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
            f"held = []\ntry:\n    while len(held) < {wanted}: held.append(socket.socket())\nexcept OSError: pass\n"
            "print(len(held))")
    done = subprocess.run(["su", "nobody", "-s", "/bin/sh", "-c", f'python3 -c "{code}"'], capture_output=True, text=True, check=True)
    return float(done.stdout)


CASES = [
    ("fs.inotify.max_user_instances", "watchers of 500 that a user gets", watchers, "more"),
    ("vm.max_map_count", "mappings of 200,000 that a process gets", mappings, "more"),
    ("pam.*.hard.nofile", "sockets of 30,000 that a user gets who logs in", files, "more"),
    ("kernel.sched_autogroup_enabled", "seconds of a job beside nice agents of another session", foreground, "less"),
]


def main():
    if os.geteuid() != 0:
        sys.exit("needs root: it applies settings and rolls them back")
    print("| setting | what | before | after |\n|---|---|---|---|")
    worse = 0
    for key, what, work, better in CASES:
        before = apart(work)
        done = subprocess.run([APM, "tune", "apply", "--yes", "--only", key], capture_output=True, text=True)
        if done.returncode != 0 or "applied" not in done.stderr:
            print(f"| {key} | {what} | {before:g} | nothing to apply: {(done.stdout + done.stderr).strip().splitlines()[-1]} |")
            continue
        try:
            after = apart(work)
        finally:
            subprocess.run([APM, "tune", "rollback"], capture_output=True, check=True)
        print(f"| {key} | {what} | {before:.4g} | {after:.4g} |")
        worse += not (after > before if better == "more" else after < before)
    sys.exit(worse > 0)


main()
