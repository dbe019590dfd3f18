"""What the network faults are made of: programs that connect too fast, accept too slowly, send too much.

usage: network.py WHAT HOST PORT [COUNT [MORE]]; runs until it is ended, or for half a minute."""

import fcntl
import os
import random
import resource
import socket
import struct
import sys
import threading
import time

END = time.monotonic() + 30


def running():
    return time.monotonic() < END


def ready():
    """Says to who started it that it stands."""
    path = os.environ.get("READY")
    if path:
        open(path, "w", encoding="ascii").close()


def listener(host, port, backlog=1024):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((host, port))
    server.listen(backlog)
    return server


def sink(host, port, *_):
    """Accepts and reads everything."""
    def drain(connection):
        with connection:
            while connection.recv(1 << 16):
                pass
    server = listener(host, port)
    ready()
    while True:
        threading.Thread(target=drain, args=(server.accept()[0],), daemon=True).start()


def keep(host, port, *_):
    """Accepts and keeps what it accepts, unread."""
    server = listener(host, port)
    ready()
    kept = []
    while True:
        kept.append(server.accept()[0])


def closer(host, port, *_):
    """Accepts, waits for the other side to close, closes."""
    server = listener(host, port)
    ready()
    while True:
        connection = server.accept()[0]
        connection.recv(1)
        connection.close()


def deaf(host, port, backlog=2, *_):
    """Listens and never accepts."""
    server = listener(host, port, backlog)
    ready()
    time.sleep(30)
    server.close()


def knock(host, port, count=150, *_):
    """Connects so many times a second, and lets go."""
    held = []
    ready()
    while running():
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((host, port))
        held.append(one)
        if len(held) > 400:
            held.pop(0).close()
        time.sleep(1 / count)


def send(host, port, size=1 << 16, *_):
    """Sends as much as goes."""
    stream = socket.create_connection((host, port))
    ready()
    while running():
        stream.sendall(b"x" * size)


def drip(host, port, count=10, *_):
    """Sends so many small packets a second."""
    stream = socket.create_connection((host, port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ready()
    while running():
        stream.sendall(b"x" * 100)
        time.sleep(1 / count)


def head_then_body(host, port, *_):
    """A request whose head is small and whose body is large."""
    stream = socket.create_connection((host, port))
    stream.sendall(b"x" * 200)
    time.sleep(0.2)
    ready()
    stream.sendall(b"x" * 100_000)
    time.sleep(30)


def hold(host, port, count=60, *_):
    """Opens so many connections and keeps them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    held = []
    for _ in range(count):
        try:
            held.append(socket.create_connection((host, port), timeout=2))
        except OSError:
            break
    ready()
    time.sleep(30)


def close_many(host, port, count=3000, *_):
    """Opens and closes so many, one after the other: each is left in TIME_WAIT."""
    for _ in range(count):
        socket.create_connection((host, port)).close()
    ready()
    time.sleep(30)


def refused(host, port, count=0, *_):
    """Connects where nobody listens; as fast as it goes, or so many times a second."""
    ready()
    while running():
        one = socket.socket()
        one.connect_ex((host, port))
        one.close()
        if count:
            time.sleep(1 / count)


def udp_deaf(host, port, *_):
    """Has a UDP socket and does not read."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((host, port))
    ready()
    time.sleep(30)
    one.close()


def udp_send(host, port, size=200, rate=0):
    """Sends packets as fast as it goes, or so many a second."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ready()
    sent, start = 0, time.monotonic()
    while running():
        try:
            one.sendto(b"x" * size, (host, port))
        except OSError:
            pass
        sent += 1
        ahead = sent / rate - (time.monotonic() - start) if rate else 0
        if ahead > 0:
            time.sleep(ahead)


def tap(name, *_):
    """The other end of a network interface: takes what is sent over it."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH", name.encode(), 0x1002))
    ready()
    while running():
        os.read(device, 4096)


def fill(host, port, count=100, *_):
    """Sends on many connections to somebody who does not read."""
    held = []
    for _ in range(count):
        one = socket.create_connection((host, port))
        one.setblocking(False)
        try:
            while True:
                one.send(b"x" * 65536)
        except BlockingIOError:
            held.append(one)
    ready()
    time.sleep(30)


def hang(host, port, count=60, *_):
    """Tries to connect, many times at once, to somebody who does not answer."""
    trying = []
    for _ in range(int(count)):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((host, port))
        trying.append(one)
    ready()
    time.sleep(30)


def leave_open(host, port, count=200, *_):
    """A server whose clients have closed; it has not."""
    server = listener(host, port)
    held = []
    for _ in range(int(count)):
        socket.create_connection((host, port)).close()
        held.append(server.accept()[0])
    ready()
    time.sleep(30)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def raw():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def syn_flood(host, port, rate=3000, *_):
    """SYNs from addresses that never answer."""
    one, to = raw(), socket.inet_aton(host)
    ready()
    while running():
        source = struct.pack("!BBBB", 10, 77, random.randrange(256), random.randrange(1, 255))
        tcp = struct.pack("!HHIIBBHHH", random.randrange(1024, 65535), port, random.getrandbits(32), 0, 0x50, 2, 8192, 0, 0)
        tcp = tcp[:16] + struct.pack("!H", checksum(source + to + struct.pack("!BBH", 0, 6, 20) + tcp)) + tcp[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + source + to
        one.sendto(ip + tcp, (host, 0))
        time.sleep(1 / rate)


def track(host, port, count=262_144, *_):
    """So many UDP packets of one address, each from another port to another port: an entry each."""
    one, to, source = raw(), socket.inet_aton(host), socket.inet_aton("10.99.0.77")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + source + to
    while running():
        for number in range(count):
            at, of = divmod(number, 60_000)
            one.sendto(head + struct.pack("!HHHH", 1024 + of, port + at, 8, 0), (host, 0))
        ready()


if __name__ == "__main__":
    what, host, port, *more = sys.argv[1:]
    try:
        globals()[what](host, int(port), *map(int, more))
    except (KeyboardInterrupt, BrokenPipeError):
        pass
