"""Tries to do what a confined task must not do: one attempt a name, each in a process of its own. Prints `NAME WHAT` a line:
`worked`, `refused`, or `unsupported` where this machine has nothing to try it on.

None of them harms the machine where it works, which is what the confinement under test may fail to prevent: what is not the
test's own is opened and not written, what is made elsewhere is removed again, and nothing is mounted but on a folder here.

escapes.py OUTSIDE HOME STATE APM PLANTED TCP UDP ABSTRACT [NAME...]"""
import ctypes, errno, glob, mmap, os, shutil, signal, socket, struct, sys, time

OUT, HOME, STATE, APM, PLANTED, TCP, UDP, ABSTRACT = sys.argv[1:9]
APM, TCP, UDP = int(APM), int(TCP), int(UDP)
libc = ctypes.CDLL(None, use_errno=True)
FILE = OUT + "/file"


class Unsupported(Exception):
    pass


def syscall(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def write(path):
    with open(path, "w") as file:
        file.write("escaped")


def make(path):
    write(path)
    os.remove(path)


def open_to_write(path):
    os.close(os.open(path, os.O_WRONLY))


def mount():
    os.makedirs("mounted", exist_ok=True)
    syscall(165, b"none", b"mounted", b"tmpfs", ctypes.c_long(0), None)
    syscall(166, b"mounted", ctypes.c_int(2))


def read(path, wanted="secret"):
    data = open(path, "rb").read()
    if wanted.encode() not in data:
        raise OSError("it holds nothing of the kind")


def by_link(target, use):
    if os.path.lexists("link"):
        os.remove("link")
    os.symlink(target, "link")
    use("link")


def hard_link(target, use):
    if os.path.lexists("hard"):
        os.remove("hard")
    os.link(target, "hard")
    use("hard")


def connect(family, kind, address, protocol=0):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(5)
        s.connect(address)
        s.send(b"x")


def datagram(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", address)


def pair_to_path():
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", OUT + "/datagrams")


def listen():
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()


def vsock():
    socket.socket(40, socket.SOCK_STREAM).connect((2, 1))


def environment():
    if not any(PLANTED in value for value in os.environ.values()):
        raise OSError("no such variable")


def namespace(flag):
    syscall(272, ctypes.c_int(flag))


def clone_user():
    child = libc.syscall(ctypes.c_long(56), ctypes.c_long(0x10000000 | 17), None, None, None, None)
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone")
    os.waitpid(child, 0)


def clone3_user():
    arguments = struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
    buffer = ctypes.create_string_buffer(arguments)
    child = libc.syscall(ctypes.c_long(435), buffer, ctypes.c_long(len(arguments)))
    if child == 0:
        os._exit(0)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone3")
    os.waitpid(child, 0)


def memory_of_apm():
    number = os.open(f"/proc/{APM}/mem", os.O_RDONLY)
    os.close(number)


def vm_read():
    local = ctypes.create_string_buffer(8)
    here = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(local), 8))
    there = ctypes.create_string_buffer(struct.pack("QQ", 0x1000, 8))
    try:
        syscall(310, ctypes.c_int(APM), here, ctypes.c_long(1), there, ctypes.c_long(1), ctypes.c_long(0))
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise


def seize():
    syscall(101, ctypes.c_long(0x4206), ctypes.c_long(APM), None, None)


def take_descriptor():
    pidfd = syscall(434, ctypes.c_int(APM), ctypes.c_int(0))
    syscall(438, ctypes.c_int(pidfd), ctypes.c_int(0), ctypes.c_int(0))


def memfd():
    number = os.memfd_create("escape", 0)
    os.write(number, b"#!/bin/sh\necho x > " + FILE.encode() + b"\n")
    if os.spawnv(os.P_WAIT, f"/proc/self/fd/{number}", ["escape"]) != 0:
        raise OSError("it failed")


def child_of_another_group():
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            write(FILE)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError("refused in a session of its own")


def inherited_descriptors():
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if int(number) > 2 and not path.startswith(("/proc/", "pipe:")) and not path.endswith("escapes.py"):
            return
    raise OSError("none but its own")


def handle():
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int(0)
    syscall(303, ctypes.c_int(-100), FILE.encode(), buffer, ctypes.byref(mount), ctypes.c_int(0))
    folder = os.open("/", os.O_RDONLY)
    syscall(304, ctypes.c_int(folder), buffer, ctypes.c_int(0))


def push_character():
    import fcntl
    fcntl.ioctl(0, 0x5412, b"x")


def old_abi():
    syscall(0x40000000 | 39)


def privileges():
    status = open("/proc/self/status").read()
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    no_more = all(int(fields[name], 16) == 0 for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"])
    if no_more and fields["NoNewPrivs"] == "1" and (os.getuid() != 0 or int(fields["CapBnd"], 16) == 0):
        raise OSError("it has none, and gets none")


def disk():
    for device in glob.glob("/dev/[vsn][dv]*") + ["/dev/mem", "/dev/kmsg"]:
        if os.path.exists(device):
            with open(device, "rb") as file:
                file.read(1)
            return
    raise Unsupported


def attribute():
    try:
        os.setxattr(FILE, "user.x", b"x")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            raise Unsupported
        raise


def hooks(path):
    if not os.path.isdir(".git"):
        shutil.copytree("repository", ".git")
    write(path)


def fill():
    with open(os.environ["TMPDIR"] + "/flood", "wb") as file:
        for _ in range(16):
            file.write(bytes(1 << 20))
    os.remove(os.environ["TMPDIR"] + "/flood")


def of_root(use):
    if os.getuid() != 0:
        raise Unsupported
    use()


ESCAPES = {
    "write a file outside": lambda: write(FILE),
    "create a file outside": lambda: write(OUT + "/new"),
    "write by ..": lambda: write("../outside/file"),
    "write by a link": lambda: by_link(FILE, write),
    "write by /proc/self/root": lambda: write("/proc/self/root" + FILE),
    "write by /proc/self/cwd": lambda: write("/proc/self/cwd/../outside/file"),
    "write by a hard link": lambda: hard_link(FILE, write),
    "rename out": lambda: (write("mine"), os.rename("mine", OUT + "/mine")),
    "rename in": lambda: os.rename(OUT + "/movable", "stolen"),
    "truncate outside": lambda: os.truncate(FILE, 0),
    "remove outside": lambda: os.remove(OUT + "/removable"),
    "make a folder outside": lambda: os.mkdir(OUT + "/folder"),
    "make a link outside": lambda: os.symlink("x", OUT + "/link"),
    "make a FIFO outside": lambda: os.mkfifo(OUT + "/fifo"),
    "write to /tmp": lambda: make("/tmp/apm-escaped"),
    "write to /dev/shm": lambda: make("/dev/shm/apm-escaped"),
    "write to the home of the user": lambda: write(HOME + "/.profile"),
    "write a file of the system": lambda: open_to_write("/etc/crontab" if os.path.exists("/etc/crontab") else "/etc/passwd"),
    "read a secret": lambda: read(HOME + "/.ssh/id"),
    "read a secret by a link": lambda: by_link(HOME + "/.ssh/id", read),
    "read a secret by a link of the user": lambda: read(HOME + "/keys/id"),
    "read a secret by a hard link": lambda: hard_link(HOME + "/.ssh/id", read),
    "read a secret by /proc/self/root": lambda: read("/proc/self/root" + HOME + "/.ssh/id"),
    "read a secret by ..": lambda: read("../home/.ssh/id"),
    "read a file of secrets": lambda: read(HOME + "/.netrc"),
    "read apm's configuration": lambda: read(HOME + "/.config/apm/config.yaml", "run"),
    "read apm's state": lambda: read(glob.glob(STATE + "/runs/*/journal.ndjson")[0], "run"),
    "write apm's state": lambda: write(glob.glob(STATE + "/runs/*/journal.ndjson")[0]),
    "read /etc/shadow": lambda: of_root(lambda: read("/etc/shadow", ":")),
    "find the key in the environment": environment,
    "read the environment of apm": lambda: read(f"/proc/{APM}/environ", PLANTED),
    "read the memory of apm": memory_of_apm,
    "read the maps of apm": lambda: read(f"/proc/{APM}/maps", "apm"),
    "go through the root of apm": lambda: read(f"/proc/{APM}/root{HOME}/.ssh/id"),
    "go through the folder of apm": lambda: write(f"/proc/{APM}/cwd/../outside/file"),
    "read the descriptors of apm": lambda: os.readlink(f"/proc/{APM}/fd/1"),
    "trace apm": seize,
    "read memory by process_vm_readv": vm_read,
    "take a descriptor of apm": take_descriptor,
    "signal apm": lambda: os.kill(APM, signal.SIGCONT),
    "use an inherited descriptor": lambda: inherited_descriptors(),
    "connect by TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", TCP)),
    "connect by multipath TCP": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", TCP), 262),
    "listen on TCP": listen,
    "send by UDP": lambda: datagram(socket.AF_INET, ("127.0.0.1", UDP)),
    "send by UDP over IPv6": lambda: datagram(socket.AF_INET6, ("::1", UDP)),
    "make a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "make a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9),
    "connect by vsock": vsock,
    "connect to a unix socket": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, OUT + "/socket"),
    "connect to an abstract socket": lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + ABSTRACT),
    "send to a unix socket": lambda: datagram(socket.AF_UNIX, OUT + "/datagrams"),
    "send to a unix socket from a pair": pair_to_path,
    "use io_uring": lambda: syscall(425, ctypes.c_int(4), ctypes.create_string_buffer(120)),
    "make a user namespace": lambda: namespace(0x10000000),
    "make a mount namespace": lambda: namespace(0x20000),
    "make a user namespace by clone": clone_user,
    "make a user namespace by clone3": clone3_user,
    "enter a namespace": lambda: syscall(308, ctypes.c_int(os.open("/proc/self/ns/net", os.O_RDONLY)), ctypes.c_int(0)),
    "mount": mount,
    "make a mount by fsopen": lambda: syscall(430, b"tmpfs", ctypes.c_int(0)),
    "change the root": lambda: os.chroot("."),
    "load a program of BPF": lambda: syscall(321, ctypes.c_int(0), ctypes.create_string_buffer(128), ctypes.c_int(128)),
    "sample by perf": lambda: syscall(298, ctypes.create_string_buffer(128), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_int(-1), ctypes.c_long(0)),
    "handle page faults": lambda: syscall(323, ctypes.c_int(1)),
    "read a keyring": lambda: syscall(250, ctypes.c_int(0), ctypes.c_int(-3), ctypes.c_int(1)),
    "open by handle": handle,
    "call by another ABI": old_abi,
    "write from a memfd": memfd,
    "write from a session of its own": child_of_another_group,
    "have a capability": privileges,
    "open the terminal": lambda: open("/dev/tty", "w"),
    "push characters into the terminal": push_character,
    "read a device": disk,
    "write a sysctl": lambda: of_root(lambda: open_to_write("/proc/sys/kernel/core_pattern")),
    "leave the control group": lambda: of_root(lambda: open_to_write("/sys/fs/cgroup/cgroup.procs")),
    # What Landlock and seccomp do not stop.
    "change a mode outside": lambda: os.chmod(FILE, 0o644),
    "change times outside": lambda: os.utime(FILE, (1, 1)),
    "change a group outside": lambda: os.chown(FILE, -1, os.getgid()),
    "set an attribute outside": attribute,
    "list names outside": lambda: os.listdir(HOME + "/.ssh"),
    "change a hook": lambda: hooks(".git/hooks/pre-commit"),
    "change the configuration of git": lambda: hooks(".git/config"),
    "fill the disk": fill,
}


def attempt(name):
    child = os.fork()
    if child == 0:
        try:
            ESCAPES[name]()
            os._exit(0)
        except Unsupported:
            os._exit(2)
        except BaseException as error:
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    word = {0: "worked", 2: "unsupported"}.get(os.waitstatus_to_exitcode(status), "refused")
    print(f"{word} {name}", flush=True)


if not os.path.isdir("repository"):
    os.makedirs("repository/hooks")
for name in sys.argv[9:] or ESCAPES:
    attempt(name)
