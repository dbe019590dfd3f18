"""What settings that `apm tune` proposes are worth on this machine: the same work before and after, against the defaults
the machine has. Needs root, since it applies them and rolls them back, one after the other.

usage: tune.py PATH-OF-APM"""

import collections
import ctypes
import fcntl
import os
import resource
import select
import socket
import statistics
import struct
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


def may_raise():
    """Whether root can give a session more than it has itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return subprocess.run(["sh", "-c", f"ulimit -Hn {hard + 1}"], capture_output=True).returncode == 0


def files(wanted=30_000):
    """Connections an ordinary user can have open who logs in now: the soft limit is raised to the hard one."""
    code = ("import os,resource,socket\n"
            "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
            f"held = []\ntry:\n    while len(held) < {wanted}: held.append(socket.socket())\nexcept OSError: pass\n"
            "print(len(held))")
    done = subprocess.run(["su", "nobody", "-s", "/bin/sh", "-c", f'python3 -c "{code}"'], capture_output=True, text=True, check=True)
    return float(done.stdout)


class Way:
    """Two network namespaces with 20 ms each way between them, kept by a process that passes packets on, and a server in
    the second. The first one's connections use reno: bbr does not ask for what is measured."""

    NEAR, FAR = "apm-bench-near", "apm-bench-far"

    def __init__(self):
        self.children = []

    def __enter__(self):
        for name in (self.NEAR, self.FAR):
            subprocess.run(["ip", "netns", "add", name], check=True)
        ends = [self.tun(name, f"10.99.0.{at}/24") for at, name in enumerate((self.NEAR, self.FAR), 1)]
        sysctl = ["sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno", "net.ipv4.tcp_slow_start_after_idle=1"]
        subprocess.run(["ip", "netns", "exec", self.NEAR, *sysctl], check=True)
        self.fork(lambda: self.relay(*ends))
        self.fork(self.serve)
        time.sleep(0.3)
        return self

    def __exit__(self, *_):
        for child in self.children:
            os.kill(child, 9)
            os.waitpid(child, 0)
        for name in (self.NEAR, self.FAR):
            subprocess.run(["ip", "netns", "del", name], check=True)

    def fork(self, work):
        child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(1)
        self.children.append(child)

    @staticmethod
    def enter(name):
        with open(f"/run/netns/{name}") as namespace:
            if LIBC.setns(namespace.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), f"enter {name}")

    def tun(self, name, address):
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.enter(name)
        end = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(end, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        LIBC.setns(here, 0)
        os.close(here)
        for words in (["addr", "add", address, "dev", "tun0"], ["link", "set", "tun0", "up"]):
            subprocess.run(["ip", "-n", name, *words], check=True)
        return end

    @staticmethod
    def relay(one, other, delay=0.02):
        waiting = {one: collections.deque(), other: collections.deque()}
        while True:
            due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
            ready, _, _ = select.select([one, other], [], [], due and max(0, due - time.monotonic()))
            for end in ready:
                waiting[one if end == other else other].append((time.monotonic() + delay, os.read(end, 65_535)))
            for end, queue in waiting.items():
                while queue and queue[0][0] <= time.monotonic():
                    os.write(end, queue.popleft()[1])

    def serve(self):
        self.enter(self.FAR)
        server = socket.create_server(("10.99.0.2", 9000))
        while True:
            client, _ = server.accept()
            while header := client.recv(8, socket.MSG_WAITALL):
                client.recv(int(header), socket.MSG_WAITALL)
                client.sendall(b"k")

    def after_idle(self):
        """Seconds until an answer to 256 kB comes, on a connection that was warm and then idle for 1.5 s."""
        self.enter(self.NEAR)
        client = socket.create_connection(("10.99.0.2", 9000))

        def ask(size):
            began = time.monotonic()
            client.sendall(b"%08d" % size + bytes(size))
            client.recv(1)
            return time.monotonic() - began

        for _ in range(5):
            ask(1_000_000)
        took = []
        for _ in range(3):
            time.sleep(1.5)
            took.append(ask(256_000))
        return statistics.median(took)


def main():
    if os.geteuid() != 0:
        sys.exit("needs root: it applies settings and rolls them back")
    print("| setting | what | before | after |\n|---|---|---|---|")
    worse = 0
    with Way() as way:
        # What is measured, whether more or less is better, how many times, and words before apm.
        near = ["ip", "netns", "exec", way.NEAR]
        cases = [
            ("fs.inotify.max_user_instances", "watchers of 500 that a user gets", watchers, "more", 1, []),
            ("vm.max_map_count", "mappings of 200,000 that a process gets", mappings, "more", 1, []),
            ("pam.*.hard.nofile", "sockets of 30,000 that a user gets who logs in", files, "more", 1, []),
            ("kernel.sched_autogroup_enabled", "seconds of a job beside nice agents of another session", foreground, "less", 5, []),
            ("net.ipv4.tcp_slow_start_after_idle", "seconds of a request after a rest, round trip 0.04, reno",
             way.after_idle, "less", 1, near),
        ]
        for key, what, work, better, rounds, prefix in cases:
            if key.startswith("pam") and not may_raise():
                print(f"| {key} | {what} | - | root may not raise a limit here (CAP_SYS_RESOURCE) |")
                continue
            pairs = []
            for _ in range(rounds):
                before = apart(work)
                done = subprocess.run([*prefix, APM, "tune", "apply", "--yes", "--only", key], capture_output=True, text=True)
                if done.returncode != 0 or "applied" not in done.stderr:
                    print(f"| {key} | {what} | {before:g} | nothing to apply: {(done.stdout + done.stderr).strip().splitlines()[-1]} |")
                    break
                try:
                    pairs.append((before, apart(work)))
                finally:
                    subprocess.run([*prefix, APM, "tune", "rollback"], capture_output=True, check=True)
            if pairs:
                before, after = (statistics.median(values) for values in zip(*pairs))
                print(f"| {key} | {what} | {before:.6g} | {after:.6g} |")
                worse += not (after > before if better == "more" else after < before)
    sys.exit(worse > 0)


main()
