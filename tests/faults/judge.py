"""Holds a diagnosis against what is expected of it. Prints STATE, SECONDS and WHAT, tab-separated; exit code 1 if it is
not as expected.

usage: EXPECTED='RULE CULPRIT' WITHIN=SECONDS judge.py REPORT fault|calm LEVEL BEGAN ENDED"""

import json
import os
import sys

LEVELS = ["info", "warn", "crit"]


def say(state, seconds, what, code):
    print(f"{state}\t{seconds}\t{what}")
    sys.exit(code)


def main():
    path, kind, level, began, ended = sys.argv[1:]
    seconds = f"{float(ended) - float(began):.1f}"
    expected = [line.split(None, 1) for line in os.environ["EXPECTED"].splitlines() if line.strip()]
    try:
        report = json.load(open(path, encoding="utf-8"))
    except ValueError as error:
        say("BROKEN", seconds, f"no report: {error}", 1)
    loud = {f["rule"]: f for f in report["findings"] if LEVELS.index(f["severity"]) >= LEVELS.index(level)}
    others = ", ".join(sorted(loud)) or "nothing"
    if kind == "calm":
        named = {rule for rule, *_ in expected}
        wrong = [f for f in loud.values() if not named or f["rule"] in named]
        if wrong:
            say("FALSE", seconds, "; ".join(f"{f['rule']}: {f['title']}" for f in wrong), 1)
        say("calm", seconds, "no warning" + (f" of {', '.join(sorted(named))}" if named else ""), 0)
    for rule, *culprit in expected:
        finding = loud.get(rule)
        if finding is None:
            reason = next((s["reason"] for s in report["skipped"] if s["rule"] == rule), None)
            say("MISSED", seconds, f"{rule}{' skipped: ' + reason if reason else ''}; found {others}", 1)
        who = json.dumps([finding["culprits"], finding["title"]])
        if culprit and culprit[0] not in who:
            say("MISSED", seconds, f"{rule} without {culprit[0]}: {who[:200]}", 1)
    if float(seconds) > float(os.environ.get("WITHIN", "3")):
        say("SLOW", seconds, f"found {others}", 1)
    rules = "; ".join(f"{rule}: {loud[rule]['title']}" for rule, *_ in expected)
    say("found", seconds, rules, 0)


main()
