#!/usr/bin/env python3
"""Damages what `apm profile` reads and holds it to its word: no crash, no hang, no other exit code than the program's.

usage: tests/profile/damaged.py [--seconds S] [--seed N]

Half of the time programs are profiled whose debug information, tables of unwinding, symbols or section headers have wrong
bytes or an early end; the other half recorded profiles (pprof, JSON, folded stacks, output of `perf script`) are damaged
and shown in every form. Files that were too much are kept in the folder that is named. The binary is $APM, else the newest
that was built."""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

from table import newest

SOURCE = """
#include <stdlib.h>
volatile unsigned long sink;
static inline void inner(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink += i; }
__attribute__((noinline)) void outer(int d) { if (d) { outer(d - 1); sink++; } else inner(30000000); }
int main(void) { outer(5); free(malloc(1000)); return 7; }
"""
SECTIONS = re.compile(r"^\s*\[\s*\d+\]\s+(\S+)\s+\S+\s+[0-9a-f]+\s+([0-9a-f]+)\s+([0-9a-f]+)", re.M)
READ = (".debug", ".eh_frame", ".symtab", ".strtab", ".shstrtab", ".note.gnu.build-id")
FORMS = ("text", "svg", "icicle", "html", "pprof", "folded", "speedscope", "json")
PERF_SCRIPT = b"""p  4242/4242  10.000001:     1001001 cpu-clock:
\t    55d0c0de1139 inner+0x9 (/tmp/p)
\t    55d0c0de1150 main+0x10 (/tmp/p)

"""


def sections(program):
    text = subprocess.run(["readelf", "-SW", program], capture_output=True, text=True, check=True).stdout
    found = [(int(at, 16), int(size, 16)) for name, at, size in SECTIONS.findall(text) if name.startswith(READ)]
    size = os.path.getsize(program)
    with open(program, "rb") as file:
        headers = int.from_bytes(file.read(48)[40:48], "little")
    return [one for one in found if one[1]] + [(headers, size - headers)]


def damage(data, at, size):
    data = bytearray(data)
    for _ in range(random.choice([1, 3, 30, size // 4 + 1])):
        data[at + random.randrange(size)] = random.choice([0, 255, 127, 128, random.randrange(256)])
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    random.seed(options.seed)
    apm, folder = newest(), tempfile.mkdtemp(prefix="apm-damaged-")
    os.chdir(folder)
    with open("p.c", "w", encoding="utf-8") as file:
        file.write(SOURCE)
    subprocess.run(["gcc", "-O1", "-g", "-o", "p", "p.c"], check=True)
    subprocess.run([apm, "profile", "all", "-q", "-o", "whole", "--", "./p"], check=False)
    with open("p", "rb") as file:
        program = file.read()
    parts = sections("p")
    with open("script.txt", "wb") as file:
        file.write(PERF_SCRIPT * 20)
    profiles = [f"whole/{name}" for name in ("profile.pb.gz", "profile.json", "cpu.folded")] + ["script.txt"]
    bad = runs = 0

    def hold(words, expected, path):
        nonlocal bad, runs
        runs += 1
        try:
            ran = subprocess.run([apm, "profile", *words], capture_output=True, timeout=60, check=False)
            is_wrong = ran.returncode not in expected or b"panicked" in ran.stderr
            what = f"exit code {ran.returncode}: {ran.stderr[-200:]!r}"
        except subprocess.TimeoutExpired:
            is_wrong, what = True, "no end within 60 s"
        if is_wrong:
            bad += 1
            shutil.copy(path, f"bad-{bad}")
            print(f"bad-{bad}: apm profile {' '.join(words)}: {what}")

    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        wrong = damage(program, *random.choice(parts))
        if random.random() < 0.1:
            wrong = wrong[:random.randrange(len(wrong) // 2, len(wrong))]
        with open("m", "wb") as file:
            file.write(wrong)
        os.chmod("m", 0o755)
        truth = subprocess.run(["./m"], capture_output=True, check=False).returncode
        kind = random.choice(["cpu", "mem", "all"])
        # A file whose head is broken as well does not start: apm says so, with the code of wrong usage.
        hold([kind, "-o", "out", "--", "./m"], (truth,) if truth == 7 else (truth, 2), "m")
        for path in profiles:
            with open(path, "rb") as file:
                whole = file.read()
            wrong = damage(whole, 0, len(whole))
            name = f"damaged-{os.path.basename(path)}"
            with open(name, "wb") as file:
                file.write(wrong[:random.randrange(len(wrong))] if random.random() < 0.3 else wrong)
            hold(["show", name, "--format", random.choice(FORMS), "-o", "shown"], (0, 2), name)
    print(f"seed {options.seed}: {runs} runs, {bad} bad{f', kept in {folder}' if bad else ''}")
    if not bad:
        shutil.rmtree(folder)
    sys.exit(1 if bad else 0)


main()
