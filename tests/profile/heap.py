#!/usr/bin/env python3
"""Profiles the memory of a program with known sites many times, and holds what `apm profile mem` says against the truth
and against the standard errors that follow from its sampling.

usage: tests/profile/heap.py [--runs N] [--every SIZE]

An allocation of s bytes is sampled with p = 1 - exp(-s / mean) and then stands for 1 / p: of n allocations the sum has
the relative standard error sqrt((1 - p) / (p * n)). Right is: of all figures at least 98 % lie within three of these of
the truth (99.7 % would, if they were normal), and those of each site scatter as much as that, within four standard errors
of such a scatter. The binary is $APM, else the newest that was built."""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from table import newest

# Function, kind of values, how many allocations, how large; the 200 live at once, the 25,000 stay, the 100,000 go at once.
SITES = [
    ("peak", "peak_space", 200, 1 << 20),
    ("leak", "inuse_space", 25_000, 1000),
    ("churn", "alloc_space", 100_000, 50_000),
    ("churn", "alloc_objects", 100_000, 50_000),
]
SOURCE = """
#include <stdlib.h>
#include <string.h>
#define NOINLINE __attribute__((noinline))
NOINLINE void *peak(void) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); return p; }
NOINLINE void leak(void) { for (int i = 0; i < 25000; i++) *(volatile char *)malloc(1000) = 1; }
NOINLINE void churn(void) { for (int i = 0; i < 100000; i++) { char *p = malloc(50000); *(volatile char *)p = 1; free(p); } }
int main(void) {
    void *all[200];
    for (int i = 0; i < 200; i++) all[i] = peak();
    for (int i = 0; i < 200; i++) free(all[i]);
    leak();
    churn();
}
"""


def totals(path):
    """Sums by function and kind of values."""
    with open(path, encoding="utf-8") as file:
        profile = json.load(file)
    kinds = [kind["name"] for kind in profile["kinds"]]
    sums = {}
    for row in profile["rows"]:
        node, inside = row["node"], set()
        while node is not None:
            inside.add(profile["frames"][profile["nodes"][node]["frame"]]["name"])
            node = profile["nodes"][node].get("caller")
        for name in inside:
            for kind, value in zip(kinds, row["values"]):
                sums[name, kind] = sums.get((name, kind), 0) + value
    return sums, profile["quality"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--every", type=int, default=512 << 10, help="bytes")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="apm-heap-")
    try:
        with open(f"{folder}/sites.c", "w", encoding="utf-8") as file:
            file.write(SOURCE)
        flags = ["-O2", "-fno-builtin", "-fno-optimize-sibling-calls"]
        subprocess.run(["gcc", *flags, "-o", f"{folder}/sites", f"{folder}/sites.c"], check=True)
        words = [newest(), "profile", "mem", "-q", "--every", str(options.every), "-o", f"{folder}/out", "--"]
        found, lost = {site: [] for site in SITES}, 0
        for _ in range(options.runs):
            subprocess.run([*words, f"{folder}/sites"], check=True)
            sums, quality = totals(f"{folder}/out/profile.json")
            lost += quality["lost"]
            for site in SITES:
                found[site].append(sums.get(site[:2], 0))
    finally:
        shutil.rmtree(folder)
    within = count = 0
    wrong = False
    print(f"{'site':<24} {'truth':>12} {'mean found':>12} {'error':>7} {'scatter':>8} {'within 3':>9}")
    for site in SITES:
        name, kind, n, size = site
        p = 1 - math.exp(-size / options.every)
        error = math.sqrt((1 - p) / (p * n))
        truth = n * size if kind.endswith("space") else n
        off = [(value / truth - 1) / error for value in found[site]]
        inside = sum(abs(one) <= 3 for one in off)
        scatter = math.sqrt(statistics.fmean(one * one for one in off))
        wrong |= abs(scatter - 1) > 4 / math.sqrt(2 * len(off))
        within, count = within + inside, count + len(off)
        mean = statistics.fmean(found[site])
        print(f"{name + ', ' + kind:<24} {truth:>12} {mean:>12.0f} {100 * error:>6.1f}% {scatter:>8.2f} "
              f"{inside:>4} of {len(off)}")
    wrong |= within < 0.98 * count
    print(f"\n{within} of {count} within three standard errors; {lost} records lost: {'WRONG' if wrong else 'right'}")
    sys.exit(wrong)


main()
