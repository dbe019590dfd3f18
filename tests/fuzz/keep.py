#!/usr/bin/env python3
"""Chooses a small corpus: keep.py CONTROL_FILE CORPUS, after a merge of libFuzzer has written the control file.

The inputs that together have most of the features that any has, small ones first, up to a number and a size. What has a
name of its own in the corpus (an input that was wrong once) stays.
"""
import hashlib
import pathlib
import re
import sys

FILES_MAX = 40
BYTES_MAX = 200_000


def read(control: pathlib.Path) -> dict[pathlib.Path, set[str]]:
    """The features of each input."""
    lines = control.read_text().splitlines()
    count = int(lines[0])
    paths = [pathlib.Path(line) for line in lines[2 : 2 + count]]
    features: dict[pathlib.Path, set[str]] = {}
    for line in lines[2 + count :]:
        kind, number, *rest = line.split()
        if kind == "FT":
            features[paths[int(number)]] = set(rest)
    return features


def main() -> None:
    control, corpus = map(pathlib.Path, sys.argv[1:])
    features = read(control)
    kept = [path for path in corpus.iterdir() if not re.fullmatch("[0-9a-f]{12}", path.name)]
    seen = set().union(*(features.get(path, set()) for path in kept))
    size = sum(path.stat().st_size for path in kept)
    chosen: dict[str, bytes] = {}
    left = {path: found - seen for path, found in features.items() if path not in kept}
    while len(kept) + len(chosen) < FILES_MAX:
        sizes = {path: path.stat().st_size for path in left}
        left = {path: new for path, new in left.items() if new and size + sizes[path] <= BYTES_MAX}
        if not left:
            break
        best = max(left, key=lambda path: (len(left[path]) / (sizes[path] + 200), path.name))
        content = best.read_bytes()
        chosen[hashlib.sha256(content).hexdigest()[:12]] = content
        size += len(content)
        new = left.pop(best)
        seen |= new
        left = {path: found - new for path, found in left.items()}
    for path in corpus.iterdir():
        if path not in kept:
            path.unlink()
    for name, content in chosen.items():
        (corpus / name).write_bytes(content)
    total = len(set().union(*features.values())) if features else 0
    print(f"{corpus.name}: {len(kept) + len(chosen)} inputs of {size} bytes have {len(seen)} of {total} features")


main()
