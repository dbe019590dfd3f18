#!/usr/bin/env python3
"""Profiles programs of known proportions and prints what `apm profile cpu` says beside the truth.

usage: tests/profile/table.py [--seconds S] [--format text|markdown] [NAME...]
  --seconds S  CPU time each program takes (default 3: about 3,000 samples at 999 Hz)
  NAME         only rows whose name has this in it, for instance `go` or `seccomp`

A program spends half, three tenths and two tenths of its time in three functions and prints how much CPU time each
really took, by its own clock (programs/). A row is right where

  - every share is within 3 points of that truth; at n samples, less than 2,000, within 3 * sqrt(2000 / n), which is the
    same number of standard errors (kernels whose timers tick 250 times a second, and ptrace, give less than 999),
  - the functions stand under their callers (gamma below its twenty frames of recursion, all below `main`),
  - the sampler is the one that this user under this filter should get,
  - samples without any name are under 2 %.

Each program runs as a command and is joined by its pid, as root and as an ordinary user (65534), and under a seccomp
filter that answers EPERM to perf_event_open. The binary is $APM, else the newest that was built. Exit code 1 if a row
is wrong; a missing program is a skipped row, under CI=1 a wrong one."""

import argparse
import bisect
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("alpha", "beta", "gamma")
NOBODY = 65534
POINTS = 3.0

# Runs a command under a filter that answers EPERM to perf_event_open (298 on x86-64, 241 on aarch64).
REFUSING = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 298, "aarch64": 241}[platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Skipped(Exception):
    """What this row needs is not here."""


class Wrong(Exception):
    """apm did not do what it should."""


def newest():
    if os.environ.get("APM"):
        return os.path.abspath(os.environ["APM"])
    root = os.path.join(HERE, "..", "..", "target")
    found = [p for k in ("release", "debug") for p in glob.glob(f"{root}/{k}/apm") + glob.glob(f"{root}/*/{k}/apm")]
    if not found:
        sys.exit("build apm first: cargo build --release")
    return os.path.abspath(max(found, key=os.path.getmtime))


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"no {program}")


class Place:
    """A folder that everybody may enter, with the programs."""

    def __init__(self, seconds):
        self.folder = tempfile.mkdtemp(prefix="apm-table-")
        os.chmod(self.folder, 0o777)
        self.seconds = seconds
        self.built = {}
        self.apm = os.path.join(self.folder, "apm")
        shutil.copy(newest(), self.apm)
        with open(os.path.join(self.folder, "refusing.py"), "w", encoding="utf-8") as file:
            file.write(REFUSING)

    def source(self, name):
        return os.path.join(HERE, "programs", name)

    def build(self, name, *command):
        """Runs a compiler once; its output is called `name`."""
        if name not in self.built:
            need(command[0])
            ran = subprocess.run([*command], cwd=self.folder, capture_output=True, text=True, check=False,
                                 env={**os.environ, "GOCACHE": os.path.join(self.folder, "go"), "GOFLAGS": "-mod=mod"})
            self.built[name] = ran.stderr.strip().splitlines()[-1:] if ran.returncode else None
        if self.built[name] is not None:
            raise Skipped(f"{command[0]}: {' '.join(self.built[name])[:100]}")
        return os.path.join(self.folder, name)


# Programs: how each is made, and the words to start it.

C = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"]


def c(place, *more, name="c", compiler="gcc"):
    return [place.build(name, compiler, *C, *more, "-o", name, place.source("shares.c"))]


def cpp(place):
    return [place.build("cpp", "g++", "-std=c++14", *C, "-o", "cpp", place.source("shares.cpp"))]


def rust(place):
    words = ["-O", "-C", "debuginfo=1", "-C", "target-feature=+crt-static", "--crate-name", "shares"]
    words += ["-C", "link-arg=-fuse-ld=lld"] if shutil.which("ld.lld") else []
    return [place.build("rust", "rustc", *words, "-o", "rust", place.source("shares.rs"))]


def go(place):
    return [place.build("golang", "go", "build", "-o", "golang", place.source("shares.go"))]


def node(place):
    need("node")
    return ["node", place.source("shares.js")]


def python(place, version):
    own = glob.glob(f"{os.path.expanduser('~')}/.pyenv/versions/{version}.*/bin/python{version}")
    for found in sorted(own) + [f"{folder}/python{version}" for folder in ("/usr/local/bin", "/usr/bin")]:
        if os.path.exists(found):
            break
    else:
        raise Skipped(f"no python{version}")
    if found in own:  # in a home that others may not enter, with a library of its own
        copy = os.path.join(place.folder, f"python{version}")
        if not os.path.exists(copy):
            unused = shutil.ignore_patterns("test", "tests", "__pycache__", "site-packages", "idlelib", "*.a", "config-*")
            shutil.copytree(os.path.dirname(os.path.dirname(found)), copy, symlinks=True, ignore=unused)
        found = os.path.join(copy, "bin", f"python{version}")
        return ["env", f"LD_LIBRARY_PATH={copy}/lib", found, place.source("shares.py")]
    return [found, place.source("shares.py")]


def java(place):
    # A map of names says nothing of what was inlined: here it would be everything.
    folder = os.path.join(place.folder, "java")
    place.build("java", "javac", "-d", folder, place.source("Shares.java"))
    whole = ["-XX:CompileCommand=quiet", "-XX:CompileCommand=dontinline,Shares::*"]
    return ["java", *whole, "-cp", folder, "Shares"]


PROGRAMS = {
    "C -O2, no frame pointers": lambda place: c(place),
    "C++ -O2": cpp,
    "Rust, lld, static": rust,
    "Go": go,
    "C, musl, static": lambda place: c(place, "-static", name="musl", compiler="musl-gcc"),
    "C, static-pie": lambda place: c(place, "-static-pie", name="pie"),
    "C, four threads": lambda place: c(place) + ["4"],
    "Node, --jit": node,
    "Python 3.11, no names of its functions": lambda place: python(place, "3.11"),
    "Python 3.12, --jit": lambda place: python(place, "3.12"),
    "Python 3.13, --jit": lambda place: python(place, "3.13"),
    "Java, --jit": java,
}
# What a runtime must be told before it starts, where apm only joins it.
TOLD = {
    "Node": {"NODE_OPTIONS": "--perf-basic-prof --interpreted-frames-native-stack"},
    "Python": {"PYTHONPERFSUPPORT": "1"},
}


def words_for(name, words, seconds):
    """The program's words with its time in their place."""
    return [*words, str(seconds)] if words[-1] != "4" else [*words[:-1], str(seconds / 2), "4"]


def as_user(who, words):
    if who == "root":
        return words
    need("setpriv")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]


def under(refused, place, words):
    return [sys.executable, os.path.join(place.folder, "refusing.py"), *words] if refused else words


def start(place, words, **more):
    environment = {**os.environ, "HOME": place.folder, **more.pop("environment", {})}
    return subprocess.Popen(words, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def shares_of(text):
    found = re.search(r"alpha (\S+) beta (\S+) gamma (\S+)", text)
    if not found:
        raise Wrong(f"the program said nothing of its time: {text[-200:]!r}")
    took = [float(one) for one in found.groups()]
    return [one / sum(took) for one in took]


def room(samples):
    """Points that a share may be off."""
    return POINTS * max(1.0, (2000 / max(samples, 1)) ** 0.5)


class Profile:
    """profile.json: stacks as lists of names, the innermost first."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.json = json.load(file)
        frames, nodes = self.json["frames"], self.json["nodes"]
        kinds = [one["name"] for one in self.json["kinds"]]
        samples, cpu = kinds.index("samples"), kinds.index("cpu")
        chains = []
        for node in nodes:
            caller = node.get("caller")
            chains.append([node["frame"], *([] if caller is None else chains[caller])])
        self.stacks = []
        for row in self.json["rows"]:
            names = [frames[one]["name"] for one in chains[row["node"]]]
            thread = self.json["threads"][row["thread"]] if "thread" in row else {}
            self.stacks.append((names, thread, row["values"][samples], row["values"][cpu]))

    def quality(self, name):
        return self.json["quality"].get(name)

    def count(self, test):
        """Samples."""
        return sum(samples for names, thread, samples, _ in self.stacks if test(names, thread))

    def time(self, test):
        """CPU time."""
        return sum(cpu for names, thread, _, cpu in self.stacks if test(names, thread))

    def shares(self, parts):
        took = [self.time(is_in(part)) for part in parts]
        return [one / max(sum(took), 1) for one in took]


def is_in(part):
    # As a word of its own: `shares::Alpha::alpha(...)`, `main.alpha`, `py::alpha:file`, `LShares;::alpha`.
    word = re.compile(rf"(?<![A-Za-z]){part}(?![A-Za-z])")
    return lambda names, _thread=None: any(word.search(one) for one in names)


def profile(place, name, words, how, who, refused):
    out = tempfile.mkdtemp(prefix="out-", dir=place.folder)
    os.chmod(out, 0o777)
    head = [place.apm, "profile", "cpu", "-q", "-o", os.path.join(out, "p")]
    kind = name.split()[0].rstrip(",")
    program = words_for(name, words, place.seconds)
    if how == "command":
        jit = ["--jit"] if "--jit" in name else []
        child = start(place, as_user(who, under(refused, place, [*head, *jit, "--", *program])))
        said, errors = child.communicate(timeout=120)
        if child.returncode:
            raise Wrong(f"exit code {child.returncode}: {errors.strip()[-300:]}")
    else:
        # Of a program that runs longer than it is watched; the beginning is left to the loader.
        program = words_for(name, words, place.seconds * 2)
        child = start(place, as_user(who, program), environment=TOLD.get(kind, {}))
        time.sleep(0.7)
        words = [*head, "--pid", str(child.pid), "-F", "999", "--duration", f"{int(place.seconds * 1000)}ms"]
        apm = start(place, as_user(who, under(refused, place, words)))
        _, errors = apm.communicate(timeout=120)
        if apm.returncode:
            child.kill()
            raise Wrong(f"exit code {apm.returncode}: {errors.strip()[-300:]}")
        said, program_errors = child.communicate(timeout=120)
        if child.returncode:
            raise Wrong(f"the program ended with {child.returncode}: {program_errors[-200:]}")
    return Profile(os.path.join(out, "p", "profile.json")), said


def right_sampler(sampler, how, who, refused, words):
    """What the ladder should come to here."""
    if not refused:
        return any(one in sampler for one in ("cycles", "cpu-clock", "user only")), "perf events"
    is_static = "statically" in subprocess.run(["file", "-L", shutil.which(words[0]) or words[0]],
                                               capture_output=True, text=True, check=False).stdout.replace(
                                                   "static-pie", "statically")
    if how == "pid" or is_static:
        return sampler.startswith("ptrace"), "ptrace"
    return "timer" in sampler, "timers within"


def judge(name, words, found, truth, how, who, refused):
    sampler = found.quality("sampler")
    is_right, expected = right_sampler(sampler, how, who, refused, words)
    wrong = []
    if not is_right:
        wrong.append(f"sampler {sampler!r}, not {expected}")
    everything = max(found.count(lambda *_: True), 1)
    if "no names" in name:
        below = found.count(lambda names, _: any("_PyEval_EvalFrameDefault" in one for one in names))
        notes = " ".join(found.quality("notes") or [])
        wrong += [] if below > 0.9 * everything else [f"{below} below the interpreter"]
        wrong += [] if "functions of Python without names" in notes else ["nothing is said of names"]
        return sampler, everything, None, None, wrong
    three = found.count(lambda names, _: any(is_in(part)(names) for part in PARTS))
    if three < 100:
        wrong.append(f"only {three} samples in the three")
    shares = found.shares(PARTS)
    off = max(abs(100 * (share - true)) for share, true in zip(shares, truth))
    if off > room(three):
        wrong.append(f"{off:.1f} points off")
    nameless = found.time(lambda names, _: all(one.startswith("[") or one == "unknown" for one in names))
    all_time = max(found.time(lambda *_: True), 1)
    if nameless > 0.02 * all_time:
        wrong.append(f"{100 * nameless / all_time:.1f} % without a name")
    gamma = is_in("gamma_at" if "C" == name.split()[0].rstrip(",") else "gamma")
    in_gamma = found.count(lambda names, _: gamma(names))
    in_deep = found.count(lambda names, _: sum(gamma([one]) for one in names) >= 21)
    if in_deep < 0.9 * in_gamma:
        wrong.append(f"all of the recursion in {in_deep} of {in_gamma}")
    if "threads" in name:
        workers = {f"worker-{i}": found.count(lambda _, thread, i=i: thread.get("name") == f"worker-{i}")
                   for i in range(4)}
        if min(workers.values()) < 0.15 * everything:
            wrong.append(f"threads {workers}")
    elif name.startswith(("C", "Rust", "Go")):
        # Threads of Go's own runtime begin at mstart.
        roots = re.compile(r"(^|[.:])(main|goexit|mstart|mcall)")
        rooted = found.time(lambda names, _: any(roots.search(one) for one in names))
        if rooted < 0.97 * all_time:
            wrong.append(f"{100 - 100 * rooted / all_time:.1f} % not below main")
    return sampler, everything, shares, off, wrong


def short_children(place):
    """A pipeline in a loop: hundreds of processes of a few milliseconds, each named by what it does."""
    program = c(place)[0]
    script = f"for i in $(seq 80); do {program} 0 alpha | {program} 0 beta | {program} 0 gamma; done"
    return ["sh", "-c", script]


def judge_children(place, who, refused):
    out = tempfile.mkdtemp(prefix="out-", dir=place.folder)
    os.chmod(out, 0o777)
    head = [place.apm, "profile", "cpu", "-q", "-o", os.path.join(out, "p"), "--"]
    child = start(place, as_user(who, under(refused, place, [*head, *short_children(place)])))
    _, said = child.communicate(timeout=300)
    if child.returncode:
        raise Wrong(f"exit code {child.returncode}: {said[-300:]}")
    took = [sum(float(one) for one in re.findall(rf"^{part} (\S+)$", said, re.M)) for part in PARTS]
    return Profile(os.path.join(out, "p", "profile.json")), [one / sum(took) for one in took]


def large_c():
    text = ["#include <math.h>\n#include <stdlib.h>\n#include <string.h>\n"]
    for n in range(400):
        text.append(f"""
struct s{n} {{ int a[{n % 13 + 4}]; double d; char *t; struct s{n} *next; }};
int g{n}(struct s{n} *s, int x) {{ int r = 0;
 for (int i = 0; i < {n % 17 + 5}; i++) switch ((x + i) % {n % 5 + 4}) {{
  case 0: r += s->a[i % {n % 13 + 4}]; break; case 1: r ^= (int)(s->d * x); break;
  case 2: if (s->next) r -= s->next->a[0]; break; default: r = r * 31 + (int)strlen(s->t ? s->t : "{n}"); }}
 double y = x; while (y > 1.5) {{ y = sqrt(y) + {n % 3}; if (y > 100) break; }} return r + (int)y; }}""")
    return "".join(text)


def judge_compiler(place, who):
    """cc1 by apm and by perf: the functions that take most by themselves, and how much has a name at all."""
    need("gcc", "perf")
    with open(os.path.join(place.folder, "large.c"), "w", encoding="utf-8") as file:
        file.write(large_c())
    gcc = ["gcc", "-O2", "-w", "-c", "-o", f"large-{who}.o", "large.c"]
    out = tempfile.mkdtemp(prefix="out-", dir=place.folder)
    os.chmod(out, 0o777)
    child = start(place, as_user(who, [place.apm, "profile", "cpu", "-q", "-o", f"{out}/p", "--", *gcc]))
    _, said = child.communicate(timeout=300)
    if child.returncode:
        raise Wrong(f"exit code {child.returncode}: {said[-300:]}")
    found = Profile(f"{out}/p/profile.json")
    data = os.path.join(out, "perf.data")
    perf = start(place, as_user(who, ["perf", "record", "-q", "-F", "999", "-e", "cpu-clock:u", "-o", data, *gcc]))
    perf.communicate(timeout=300)
    cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()
    script = subprocess.run(["perf", "script", "-f", "-i", data, "--comm", "cc1", "-F", "ip,dso"],
                            capture_output=True, text=True, check=False, cwd=place.folder).stdout
    # Debian's cc1 has no symbol table, but names its global functions for plugins, with their sizes; it is no PIE: what
    # perf saw are addresses of the file. What lies between them perf gives to the function before; apm does not.
    symbols = subprocess.run(["nm", "-D", "-S", "-C", "--defined-only", cc1], capture_output=True, text=True, check=True)
    table = sorted((int(at, 16), int(at, 16) + int(size, 16), name)
                   for at, size, name in re.findall(r"^(\S+) (\S+) [TtWi] (.*)$", symbols.stdout, re.M))
    begins = [begin for begin, *_ in table]
    theirs, all_theirs = {}, 0
    for address, module in re.findall(r"^\s*([0-9a-f]+)\s+\((.*)\)\s*$", script, re.M):
        if module.endswith("/cc1"):
            all_theirs += 1
            begin, end, name = table[max(bisect.bisect_right(begins, int(address, 16)) - 1, 0)]
            if begin <= int(address, 16) < end:
                theirs[name] = theirs.get(name, 0) + 1
    ours, all_ours = {}, 0
    frames, modules = found.json["frames"], found.json["modules"]
    kind = [k["name"] for k in found.json["kinds"]].index("samples")
    for row in found.json["rows"]:
        frame = frames[found.json["nodes"][row["node"]]["frame"]]
        if "module" in frame and modules[frame["module"]]["path"].endswith("/cc1"):
            ours[frame["name"]] = ours.get(frame["name"], 0) + row["values"][kind]
            all_ours += row["values"][kind]
    return found, ours, all_ours, theirs, all_theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--format", choices=["text", "markdown"], default="text")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    place = Place(options.seconds)
    is_root = os.geteuid() == 0
    bad = skipped = rows = 0

    def say(*cells):
        if options.format == "markdown":
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
        else:
            print("{:<8} {:<52} {:<26} {:>7} {:>18} {:>18} {:>5}  {}".format(*cells).rstrip(), flush=True)

    def attempt(title, function):
        nonlocal bad, skipped, rows
        if options.names and not any(name.lower() in title.lower() for name in options.names):
            return
        rows += 1
        try:
            sampler, samples, shares, truth, off, wrong = function()
            state = "WRONG" if wrong else "right"
            bad += bool(wrong)
            percent = [" ".join(f"{100 * one:.1f}" for one in row or []) for row in (shares, truth)]
            off = "" if off is None else f"{off:.1f}"
            say(state, title, sampler.split(":")[0][:26], samples, *percent, off, "; ".join(wrong))
        except Skipped as why:
            skipped += 1
            say("skipped", title, "", "", "", "", "", str(why))
        except (Wrong, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as why:
            bad += 1
            say("WRONG", title, "", "", "", "", "", str(why)[:300])

    say("state", "program, way", "sampler", "samples", "found %", "truth %", "off", "what")
    if options.format == "markdown":
        say(*["---"] * 8)
    try:
        for name, make in PROGRAMS.items():
            for how in ("command", "pid"):
                if how == "pid" and name.startswith("Java"):
                    continue  # it writes its names when it ends
                for who, refused in (("root", False), ("user", False), ("root", True), ("user", True)):
                    if who == "root" and not is_root:
                        continue
                    title = f"{name}, {how}, {who}{', seccomp' if refused else ''}"

                    def run(name=name, make=make, how=how, who=who, refused=refused):
                        words = make(place)
                        found, said = profile(place, name, words, how, who, refused)
                        truth = shares_of(said)
                        sampler, samples, shares, off, wrong = judge(name, words, found, truth, how, who, refused)
                        return sampler, samples, shares, truth if shares else None, off, wrong

                    attempt(title, run)
        for who, refused in (("root", False), ("user", False), ("user", True)):
            if who == "root" and not is_root:
                continue

            def run(who=who, refused=refused):
                found, truth = judge_children(place, who, refused)
                count, shares = found.count(lambda *_: True), found.shares(PARTS)
                off = max(abs(100 * (share - true)) for share, true in zip(shares, truth))
                wrong = [f"{off:.1f} points off"] if off > room(count) else []
                return found.quality("sampler"), count, shares, truth, off, wrong

            attempt(f"pipeline of 240 short children, {who}{', seccomp' if refused else ''}", run)
        for who in ("root", "user"):
            if who == "root" and not is_root:
                continue

            def run(who=who):
                found, ours, all_ours, theirs, all_theirs = judge_compiler(place, who)
                most = sorted(theirs, key=theirs.get, reverse=True)[:4]
                shares = [ours.get(one, 0) / max(all_ours, 1) for one in most]
                truth = [theirs[one] / max(all_theirs, 1) for one in most]
                named = sum(value for key, value in ours.items() if not key.startswith("["))
                shares.append(named / max(all_ours, 1))
                truth.append(sum(theirs.values()) / max(all_theirs, 1))
                off = max(abs(100 * (a - b)) for a, b in zip(shares, truth))
                wrong = [f"{off:.1f} points off"] if off > POINTS else []
                wrong += [f"no {one}" for one in most if one not in ours]
                hints = json.dumps(found.quality("nameless") or [])
                wrong += [] if "cc1" in hints and "dbgsym" in hints else ["what brings the other names is not said"]
                return found.quality("sampler"), all_ours, shares, truth, off, wrong

            attempt(f"gcc -O2 (cc1 against perf), {who}", run)
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)
    print(f"\n{rows} rows: {rows - bad - skipped} right, {bad} wrong, {skipped} skipped")
    sys.exit(1 if bad or (skipped and os.environ.get("CI")) else 0)


if __name__ == "__main__":
    main()
