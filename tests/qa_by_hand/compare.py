#!/usr/bin/env python3
"""Runs `apm run qa` on a project, then the same tools by hand, in other output formats read by other code, and prints
the symmetric difference of tests, findings and verdicts. Exit code 1 if there is any.

usage: compare.py APM PROJECT..."""

import json
import os
import re
import subprocess
import sys
import tempfile


def run(words, cwd, **extra):
    env = dict(os.environ, **extra)
    done = subprocess.run(words, cwd=cwd, capture_output=True, env=env, errors="replace", text=True)
    return done.returncode, done.stdout, done.stderr


def relative(path, cwd):
    return os.path.relpath(os.path.join(cwd, path), cwd)


def places(text, cwd, pattern=r"^(.+?):(\d+):(\d+): "):
    found = set()
    for line in text.splitlines():
        match = re.match(pattern, line)
        if match:
            found.add((relative(match[1], cwd), int(match[2])))
    return found


def rustfmt(cwd, _files):
    code, out, _ = run(["cargo", "fmt", "--all", "--", "--check", "-l"], cwd)
    return set(), {(relative(line, cwd), 0) for line in out.splitlines()}, code != 0


def clippy(cwd, _files):
    run(["touch", "src/lib.rs"], cwd)
    code, _, err = run(["cargo", "clippy", "--workspace", "--all-targets", "--message-format=short", "--quiet"], cwd)
    return set(), places(err, cwd), code != 0


def cargo_build(cwd, _files):
    run(["touch", "src/lib.rs"], cwd)
    code, _, err = run(["cargo", "build", "--workspace", "--message-format=short", "--quiet"], cwd)
    return set(), places(err, cwd), code != 0


def cargo_doc(cwd, _files):
    run(["touch", "src/lib.rs"], cwd)
    code, _, err = run(["cargo", "doc", "--workspace", "--no-deps", "--message-format=short", "--quiet"], cwd)
    return set(), places(err, cwd), code != 0


def nextest(cwd, _files):
    words = ["cargo", "nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "all", "--hide-progress-bar"]
    code, _, err = run(words, cwd, NEXTEST_NO_INPUT_HANDLER="1")
    if code == 4:
        return set(), set(), False
    tests = set()
    for line in err.splitlines():
        match = re.match(r"^\s+(PASS|FAIL|SKIP) \[[^\]]*\](?: \([^)]*\))? (\S+) (\S+)", line)
        if match and match[1] != "SKIP":
            tests.add((match[2], match[3], {"PASS": "passed", "FAIL": "failed"}[match[1]]))
    return tests, set(), code != 0


def doctests(cwd, _files):
    code, out, _ = run(["cargo", "test", "--doc", "--workspace", "--no-fail-fast"], cwd)
    tests = set()
    for line in out.splitlines():
        match = re.match(r"^test (.+) \.\.\. (ok|FAILED|ignored)", line)
        if match:
            tests.add((match[1], {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[match[2]]))
    return tests, set(), code != 0


def ruff(cwd, _files):
    code, out, _ = run(["ruff", "check", "--no-fix", "--no-cache", "--output-format", "concise", "."], cwd)
    return set(), places(out, cwd), code != 0


def ruff_format(cwd, _files):
    code, out, _ = run(["ruff", "format", "--no-cache", "--diff", "."], cwd)
    return set(), {(relative(m, cwd), 0) for m in re.findall(r"^--- (.+)$", out, re.M)}, code != 0


def mypy(cwd, _files):
    configured = False
    for name, section in [("mypy.ini", "mypy"), (".mypy.ini", "mypy"), ("setup.cfg", "mypy"), ("pyproject.toml", "tool.mypy")]:
        if os.path.exists(os.path.join(cwd, name)):
            text = open(os.path.join(cwd, name)).read()
            part = re.search(r"^\[" + re.escape(section) + r"\]$(.*?)(?=^\[|\Z)", text, re.M | re.S)
            configured |= bool(part and re.search(r"^(files|packages|modules)\s*=", part[1], re.M))
    code, out, _ = run(["mypy", "--show-column-numbers", "--no-error-summary"] + ([] if configured else ["."]), cwd)
    whole = {(relative(name, cwd), 0) for name in re.findall(r"^([^:\n]+): (?:error|note): ", out, re.M)}
    return set(), places(out, cwd) | whole, code != 0


def pytest(cwd, _files):
    source = os.path.join(cwd, "src")
    extra = {"PYTHONPATH": source} if os.path.isdir(source) else {}
    with tempfile.TemporaryDirectory() as cache:
        code, out, _ = run(["pytest", "-v", "-o", f"cache_dir={cache}/cache", "--color=no"], cwd, **extra)
    words = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped", "XFAIL": "skipped", "ERROR": "error", "XPASS": "passed"}
    tests = set()
    for line in out.splitlines():
        match = re.match(r"^(\S+?\.py)::(.+) (PASSED|FAILED|SKIPPED|XFAIL|XPASS|ERROR)\b", line)
        if match:
            parts = re.match(r"^((?:\w+::)*)(.*)$", match[2], re.S)
            suite = ".".join([match[1][:-3].replace("/", ".")] + [p for p in parts[1].split("::") if p])
            tests.add((suite, parts[2], words[match[3]]))
    return tests, set(), code not in (0, 5)


def gofmt(cwd, files):
    _, out, _ = run(["gofmt", "-d"] + [f for f in files if f.endswith(".go")], cwd)
    found = {(relative(m, cwd), 0) for m in re.findall(r"^\+\+\+ (\S+)", out, re.M)}
    return set(), found, bool(found)


def go_vet(cwd, _files):
    code, _, err = run(["go", "vet", "./..."], cwd)
    return set(), places(err.replace("vet: ", ""), cwd), code != 0


def go_build(cwd, _files):
    code, _, err = run(["go", "build", "-o", os.devnull, "./..."], cwd)
    return set(), places(err, cwd), code != 0


def go_test(cwd, _files):
    tests = set()
    failed = False
    for package in run(["go", "list", "./..."], cwd)[1].split():
        code, out, _ = run(["go", "test", "-v", package], cwd)
        failed = failed or code != 0
        for word, name in re.findall(r"^\s*--- (PASS|FAIL|SKIP): (\S+)", out, re.M):
            tests.add((package, name, {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}[word]))
    return tests, set(), failed


def shellcheck(cwd, files):
    def is_shell(name):
        if name.endswith((".sh", ".bash")):
            return True
        if "." in os.path.basename(name):
            return False
        with open(os.path.join(cwd, name), "rb") as file:
            return re.match(rb"#! ?\S*(/env )?\S*\b(sh|bash|dash|ksh)\b", file.readline()) is not None

    code, out, _ = run(["shellcheck", "-f", "gcc"] + [f for f in files if is_shell(f)], cwd)
    return set(), places(out, cwd), code != 0


def yamllint(cwd, files):
    names = [f for f in files if f.endswith((".yml", ".yaml"))]
    configured = any(os.path.exists(os.path.join(cwd, n)) for n in [".yamllint", ".yamllint.yaml", ".yamllint.yml"])
    rules = [] if configured else ["-d", "{rules: {key-duplicates: enable}}"]
    code, out, _ = run(["yamllint", "-f", "github"] + rules + names, cwd)
    found = {(relative(f, cwd), int(line)) for f, line in re.findall(r"file=([^,]+),line=(\d+)", out)}
    return set(), found, code != 0


BY_HAND = {
    "rustfmt": rustfmt, "clippy": clippy, "cargo-build": cargo_build, "cargo-doc": cargo_doc, "nextest": nextest,
    "doctests": doctests, "ruff": ruff, "ruff-format": ruff_format, "mypy": mypy, "pytest": pytest, "gofmt": gofmt,
    "go-vet": go_vet, "go-build": go_build, "go-test": go_test, "shellcheck": shellcheck, "yamllint": yamllint,
}
FOREIGN = {"vendor", "third_party", "fixtures", "testdata", "node_modules", "target", "dist", ".git", "snapshots"}


def files_of(cwd):
    for folder, folders, names in os.walk(cwd):
        folders[:] = [f for f in folders if f not in FOREIGN]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), cwd)


def compare(apm, project):
    """The number of differences, and of what was compared."""
    differences = compared = 0
    with tempfile.TemporaryDirectory() as state:
        code, out, err = run([apm, "run", "qa", project, "--skip", "audit", "--format", "json", "-q"], project, APM_STATE_DIR=state)
    if code not in (0, 1, 3):
        sys.exit(f"apm ended with {code}: {err}")
    print(f"{project}: apm says {json.loads(out)['verdict']}")
    for task in json.loads(out)["tasks"]:
        tool = task["check"]["tool"]
        if task["state"] == "skipped":
            reason = list(task["outcome"]["skipped"]["reason"])[0]
            if reason != "deselected":
                print(f"  {task['id']}: skipped, {task['explanation']}")
            continue
        if tool not in BY_HAND:
            print(f"  {task['id']}: not compared")
            continue
        root = os.path.join(project, task["check"].get("root", ""))
        tests, findings, failed = BY_HAND[tool](root, sorted(files_of(root)))
        results = task.get("results") or {}
        ours_tests = {
            (t["suite"], t["name"], t["status"]) if tool != "doctests" else (t["name"], t["status"])
            for t in results.get("tests", [])
        }
        if tool == "nextest":
            ours_tests = {t for t in ours_tests if t[2] != "skipped"}
        ours = {(os.path.relpath(os.path.join(project, f["file"]), root), f.get("line", 0)) for f in results.get("findings", [])}
        for what, mine, theirs in [("test", ours_tests, tests), ("finding", ours, findings), ("verdict", {task["state"] == "failed"}, {failed})]:
            compared += len(theirs)
            for side, items in [("apm only", mine - theirs), ("by hand only", theirs - mine)]:
                for item in sorted(items, key=str)[:20]:
                    differences += 1
                    print(f"  {task['id']}: {what} {side}: {item}")
        print(f"  {task['id']}: {len(tests)} tests, {len(findings)} places of findings, {'failed' if failed else 'passed'}")
    return differences, compared


def main():
    total = 0
    for project in sys.argv[2:]:
        differences, compared = compare(sys.argv[1], os.path.abspath(project))
        print(f"  {differences} differences, {compared} items compared")
        total += differences
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
