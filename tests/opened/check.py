#!/usr/bin/env python3
"""Reads a trace of strace and refuses every call of apm that opens, makes, changes or removes a file by none of the rules
of src/sys/mod.rs. There is no list of exceptions. tests/opened/run.sh makes the trace and says with which options.

What is apm: whoever executed a file of the name `apm`, its threads, and its children until they execute something else.

What the rules are in system calls, the first that fits:

- `beneath`: O_PATH and O_DIRECTORY, by which nothing is read or written. What O_PATH found, opened again by the same thread in
  its next call, through /proc/self/fd or by the same path, without waiting for a FIFO. `openat2` beneath a folder that is
  held open. One name in a folder that is held open, no link.
- `output`: a new file (O_EXCL). What is written as it grows is opened beneath its folder.
- `kernel`: below /proc, /sys and /dev, but by none of the links there that lead to the files of a process, unless it is what
  a descriptor of this process, or of the apm that started it, is open for (and not what O_PATH has only found). For reading
  also the configuration of root, and the program itself.
- `own`: in a folder that this process has looked at before without following a link (`owner` does), it and all that
  leads to it, or has made itself. To make a folder for nobody else (0700) is always right: what is done in it is judged.
- `named`: for reading, a path that is a word of the command line, or the end of one after `=` or `:`.
- `worker`: for reading, in a process that apm has started for it (`apm __worker`).

How often each was met is printed; a rule that is never met fails a trace of the whole suite (`--whole`), as then the trace
or this program is wrong."""

import collections
import os.path
import re
import sys

RULES = ("beneath", "output", "kernel", "own", "named", "worker")
OPENS = {"open", "openat", "openat2", "creat"}
CHANGES = {
    "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "link", "linkat", "symlink",
    "symlinkat", "truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat", "mknod", "mknodat",
}  # fmt: skip
CLONES = {"clone", "clone3", "fork", "vfork"}
LOOKS = {"lstat", "newfstatat", "statx"}

# Where a path of /proc leads to a file that somebody else has chosen.
ELSEWHERE = re.compile(r"/proc/(self|thread-self|[0-9]+)(/task/[0-9]+)?/(root|cwd|exe|fd|map_files)(/|$)")
SHORT = re.compile(r"/proc/self/fd/([0-9]+)/(.+)$")
DESCRIPTOR = re.compile(r"/proc/(self|[0-9]+)/fd/([0-9]+)$")
REOPENED = re.compile(r"/proc/self/fd/([0-9]+)$")
OF_ROOT = ("/etc/", "/usr/", "/lib/", "/run/systemd/", "/var/lib/apm")

LINE = re.compile(r"([0-9]+) +(.*)$")
RESUMED = re.compile(r"<\.\.\. ([a-z0-9_]+) resumed>")
CALL = re.compile(r"([a-z0-9_]+)\((.*)$", re.S)
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
FOLDER = re.compile(r"(-?[0-9]+|AT_FDCWD)(?:<((?:[^>\\]|\\.)*)>)?")


class Process:
    """What has executed one program, with its threads."""

    def __init__(self, argv, program=None, cwd=None, above=()):
        self.argv = argv  # None of what is not apm
        self.program = program
        self.cwd = cwd
        self.above = above  # the numbers of the apm that started it, and of those before
        self.looked_at = set()  # descriptors of what O_PATH has found
        self.judged = {"/"}
        self.folders = {}  # the paths of descriptors that hold a folder open


class Thread:
    def __init__(self, process):
        self.process = process
        self.found = None  # (descriptor, path) of what O_PATH has just found


def unescaped(text):
    """A string of strace as the path it stands for."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape", "replace") if "\\" in text else text


def arguments(text):
    """The arguments of a call, apart at the commas outside of quotes and brackets; the result behind them."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        letter = text[at]
        if letter == '"':
            string = STRING.match(text, at)
            if not string:
                break
            at = string.end()
            continue
        if letter == "<":
            end = FOLDER.match(text, start) if text[start:at].strip() else None
            at = end.end() if end and end.end() > at else at + 1
            continue
        if letter in "([{":
            depth += 1
        elif letter in ")]}" and depth:
            depth -= 1
        elif letter == ")":
            parts.append(text[start:at].strip())
            result = re.match(r"\s*=\s*(-?[0-9]+|\?)(.*)", text[at + 1 :])
            return parts, (int(result[1]) if result and result[1] != "?" else -1)
        elif letter == "," and not depth:
            parts.append(text[start:at].strip())
            start = at + 2
        at += 1
    return None, -1


def path_of(part):
    string = STRING.match(part)
    return unescaped(string[1]) if string else None


class Checker:
    def __init__(self):
        self.threads = {}
        self.pending = collections.defaultdict(list)
        self.unfinished = {}
        self.met = collections.Counter()
        self.programs = 0
        self.broken = collections.Counter()
        self.unreadable = []

    def read(self, lines):
        for line in lines:
            match = LINE.match(line)
            if not match:
                continue
            thread, rest = int(match[1]), match[2]
            if rest.startswith("+++"):
                self.threads.pop(thread, None)
                self.unfinished.pop(thread, None)
                continue
            if rest.endswith("<unfinished ...>"):
                self.unfinished[thread] = rest[: -len("<unfinished ...>")].rstrip()
                continue
            resumed = RESUMED.match(rest)
            if resumed:
                start = self.unfinished.pop(thread, None)
                if start is None:
                    continue
                rest = start + " " + rest[resumed.end() :].lstrip()
            if not self.threads:
                self.threads[thread] = Thread(Process(None))  # whoever strace started
            if thread in self.threads:
                self.call(thread, rest)
            else:
                self.pending[thread].append(rest)  # its parent's call has not returned yet

    def call(self, number, text):
        match = CALL.match(text)
        if not match:
            return
        name, thread = match[1], self.threads[number]
        if name in CLONES:
            result = re.search(r"\)\s*=\s*([0-9]+)", text)
            if result:
                child = int(result[1])
                shares = "CLONE_THREAD" in text
                process = thread.process
                if not shares:
                    above = (*process.above, number) if process.argv is not None else ()
                    process = Process(process.argv, process.program, process.cwd, above)
                    process.looked_at = set(thread.process.looked_at)
                    process.judged = set(thread.process.judged)
                    process.folders = dict(thread.process.folders)
                self.threads[child] = Thread(process)
                for waiting in self.pending.pop(child, []):
                    self.call(child, waiting)
            return
        if name == "fsmount":
            mount = re.search(r"\)\s*=\s*([0-9]+)", text)
            if mount:
                thread.process.folders[int(mount[1])] = "/sys/kernel/tracing"
            return
        if name in ("execve", "execveat"):
            if re.search(r"\)\s*=\s*0\b", text):
                self.executed(thread, match[2])
            return
        if thread.process.argv is None:
            return
        parts, result = arguments(match[2])
        if parts is None:
            self.unreadable.append(text[:200])
            return
        if name in LOOKS:
            self.looked(thread, name, parts, result)
        elif name in OPENS:
            found = thread.found
            thread.found = None
            self.judge(thread, text, self.opened(thread, name, parts, result, found, text))
        elif name in CHANGES:
            self.judge(thread, text, self.changed(thread, name, parts, result))

    def executed(self, thread, rest):
        path = STRING.search(rest)
        path = unescaped(path[1]) if path else ""
        again = path == "/proc/self/exe" or (path == "" and "<" in rest and re.search(r"/apm>", rest.split(",")[0]))
        was_apm = thread.process.argv is not None
        if os.path.basename(path) == "apm" or (again and was_apm):
            listed = re.search(r"\[(.*)\], (?:0x|\[|NULL)", rest, re.S)
            argv = [unescaped(word[1]) for word in STRING.finditer(listed[1] if listed else "")]
            program = path if path.startswith("/") else thread.process.program
            if path == "/proc/self/exe":
                program = thread.process.program
            thread.process = Process(argv, program, above=thread.process.above)
            self.programs += 1
        else:
            thread.process = Process(None)

    def absolute(self, thread, folder, path):
        """The path, and whether it begins at a folder that is held open."""
        held = False
        short = SHORT.match(path)
        if short and int(short[1]) in thread.process.folders:
            return os.path.join(thread.process.folders[int(short[1])], short[2]), True
        if not path.startswith("/"):
            place = FOLDER.match(folder) if folder else None
            base = unescaped(place[2]) if place and place[2] else thread.process.cwd
            held = bool(place) and place[1] != "AT_FDCWD"
            if place and not held and base:
                thread.process.cwd = base
            path = os.path.join(base or "/?", path)
        elif folder and folder.startswith("AT_FDCWD<"):
            thread.process.cwd = unescaped(FOLDER.match(folder)[2])
        return re.sub(r"/(\./)*\.?$", "", re.sub(r"(/\.?)+/", "/", path)) or "/", held

    def looked(self, thread, name, parts, result):
        if result != 0:
            return
        if name == "lstat":
            folder, path, text = None, parts[0], parts[-1]
        else:
            folder, path, text = parts[0], parts[1], " ".join(parts[2:])
            if "AT_SYMLINK_NOFOLLOW" not in text:
                return
        path = path_of(path)
        if path and "S_IFDIR" in text:
            thread.process.judged.add(self.absolute(thread, folder, path)[0])

    def opened(self, thread, name, parts, result, found, text):
        folder, path = (None, parts[0]) if name in ("open", "creat") else (parts[0], parts[1])
        path = path_of(path)
        if path is None:
            return None
        flags = " ".join(parts[1:] if name == "open" else parts[2:]) if name != "creat" else "O_WRONLY|O_CREAT|O_TRUNC"
        flags, resolve = flags.partition("resolve=")[::2]
        has = set(re.findall(r"O_[A-Z_]+", flags))
        whole, held = self.absolute(thread, folder, path)
        makes = "O_CREAT" in has
        if "O_PATH" in has:
            thread.found = (result, whole)
            thread.process.looked_at.add(result)
            if "O_DIRECTORY" in has and result >= 0:
                thread.process.folders[result] = whole
            if {"O_DIRECTORY", "O_NOFOLLOW"} <= has and result >= 0:
                thread.process.judged.add(whole)
            return "beneath"
        thread.process.looked_at.discard(result)
        if "O_DIRECTORY" in has and not makes:
            return "beneath"
        if makes and "O_EXCL" in has:
            return "output"
        no_wait = {"O_NONBLOCK", "O_NOCTTY"} <= has
        again = REOPENED.match(path)
        if found and not makes and no_wait:
            if again and int(again[1]) == found[0]:
                thread.found = found  # without /proc the path itself is next
                return "beneath"
            if whole == found[1]:
                return "beneath"
        how = set(re.findall(r"[A-Z_]+", resolve))
        if held and ("RESOLVE_IN_ROOT" in how or {"RESOLVE_BENEATH", "RESOLVE_NO_SYMLINKS"} <= how):
            if not makes or "O_NOFOLLOW" in has:
                return "beneath"
        if held and "/" not in path.rstrip("/") and path != ".." and (path == "." or "O_NOFOLLOW" in has):
            return "beneath"
        writes = bool(has & {"O_WRONLY", "O_RDWR", "O_TRUNC"}) or makes
        if self.is_of_kernel(whole, writes) or self.is_held(thread, path, makes):
            return "kernel"
        if not writes and whole in (thread.process.program, f"{thread.process.program}.dwp"):
            return "kernel"
        if self.is_own(thread, whole):
            return "own"
        # In another root the working folder is shown as from outside, and so is what was opened.
        opened = re.search(r"\)\s*= [0-9]+<((?:[^>\\]|\\.)*)>$", text)
        if not writes and (self.is_named(thread, whole) or opened and self.is_named(thread, unescaped(opened[1]))):
            return "named"
        if not writes and thread.process.argv[1:2] == ["__worker"]:
            return "worker"
        return None

    def changed(self, thread, name, parts, result):
        # Every path among the arguments has to keep a rule; what a link is to say is no path that is opened.
        if name in ("symlink", "symlinkat"):
            parts = parts[1:]
        rule, folder = None, None
        if name in ("mkdir", "mkdirat") and re.search(r", 0700$", ", ".join(parts)):
            rule = "own"
        for part in parts:
            place = FOLDER.match(part)
            if place and not STRING.match(part):
                folder = part
                continue
            path = path_of(part)
            if path is None:
                continue
            whole, held = self.absolute(thread, folder, path)
            if rule == "own" and name.startswith("mkdir"):
                pass
            elif held and not path.startswith("..") and "/" not in (SHORT.match(path) or [0, 0, path])[2].rstrip("/"):
                rule = "beneath"
            elif self.is_of_kernel(whole, True):
                rule = "kernel"
            elif self.is_own(thread, whole):
                rule = "own"
            else:
                return None
            if name in ("mkdir", "mkdirat") and result == 0:
                thread.process.judged.add(whole)
        return rule

    @staticmethod
    def is_of_kernel(path, writes):
        if "/../" in path + "/" or ELSEWHERE.match(path) or (path + "/").startswith("/dev/shm/"):
            return False
        if path.startswith(("/proc/", "/sys/", "/dev/")):
            return True
        return not writes and path.startswith(OF_ROOT)

    @staticmethod
    def is_held(thread, path, makes):
        """What a descriptor is open for that was opened by a rule, in this process or the apm that started it."""
        found = DESCRIPTOR.match(path)
        if not found or makes:
            return False
        number = int(found[2])
        if found[1] == "self":
            return number not in thread.process.looked_at
        return int(found[1]) in thread.process.above

    @staticmethod
    def is_own(thread, path):
        folders = [path]
        while folders[-1] not in ("/", ""):
            folders.append(os.path.dirname(folders[-1]))
        return "/../" not in path + "/" and all(folder in thread.process.judged for folder in folders[1:])

    def is_named(self, thread, path):
        words = thread.process.argv[1:]
        ends = words + [re.split("[=:]", word, maxsplit=1)[1] for word in words if re.search("[=:]", word)]
        return any(word and self.absolute(thread, None, word)[0] == path for word in ends)

    def judge(self, thread, text, rule):
        if rule:
            self.met[rule] += 1
        else:
            command = " ".join(thread.process.argv)
            self.broken[(re.sub(r"[0-9a-f]{4,}|[0-9]+", "#", text), text[:600], command[:300])] += 1


def main():
    whole = "--whole" in sys.argv
    names = [word for word in sys.argv[1:] if word != "--whole"]
    checker = Checker()
    for name in names:
        with open(name, encoding="utf-8", errors="backslashreplace", newline="\n") as lines:
            checker.read(lines)
    seen = set()
    for (kind, text, command), _ in checker.broken.items():
        if kind not in seen:
            seen.add(kind)
            print(f"by no rule: {text}\n    by: {command}")
    for text in checker.unreadable[:5]:
        print(f"not understood: {text}")
    figures = ", ".join(f"{checker.met[rule]} by `{rule}`" for rule in RULES)
    by_none = sum(checker.broken.values())
    print(f"{checker.programs} times apm, {sum(checker.met.values()) + by_none} calls: {figures}; {by_none} by none")
    missing = [rule for rule in RULES if not checker.met[rule]] if whole else []
    if missing:
        print(f"never met: {', '.join(missing)}: the trace is not of the whole suite, or this program is wrong")
    nothing = not checker.programs or not sum(checker.met.values()) + sum(checker.broken.values())
    if nothing:
        print("nothing of apm is in the trace")
    return 1 if checker.broken or checker.unreadable or missing or nothing else 0


if __name__ == "__main__":
    sys.exit(main())
