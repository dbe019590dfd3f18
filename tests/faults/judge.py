"""Holds a diagnosis against what is expected of it, and one after its advice was followed against the one before.

usage: EXPECTED='RULE CULPRIT' WITHIN=SECONDS judge.py REPORT fault|calm LEVEL BEGAN ENDED
           prints STATE, SECONDS and WHAT, tab-separated; exit code 1 if it is not as expected
       EXPECTED=... judge.py advice REPORT [RULE [PART]]
           prints the first command (that contains PART) of the finding of RULE, or of any that is expected
       EXPECTED=... judge.py again BEFORE AFTER RULE
           prints what has become of it; exit code 1 unless it is gone or less"""

import json
import os
import sys

LEVELS = ["info", "warn", "crit"]
# Bad below their thresholds, not above.
BELOW = {"mem.available", "fs.full", "fs.inodes", "fs.fill_eta", "fs.tmp_small", "agent.nofile", "agent.capacity"}


def say(state, seconds, what, code):
    print(f"{state}\t{seconds}\t{what}")
    sys.exit(code)


def read(path):
    return json.load(open(path, encoding="utf-8"))


def expected():
    return [line.split(None, 1) for line in os.environ["EXPECTED"].splitlines() if line.strip()]


def findings(report):
    """All of them, also those that another explains; these have its culprits too."""
    for finding in report["findings"]:
        yield finding
        for symptom in finding.get("symptoms", []):
            yield dict(symptom, culprits=symptom["culprits"] + finding["culprits"], remedies=finding["remedies"])


def is_of(finding, culprit):
    return culprit in json.dumps([finding["culprits"], finding["title"]])


def commands(report, rule, part):
    wanted = [entry for entry in expected() if rule in ("", entry[0])] or [[rule]]
    for name, *culprit in wanted:
        for finding in findings(report):
            if finding["rule"] == name and (not culprit or is_of(finding, culprit[0])):
                for remedy in finding["remedies"]:
                    if part in remedy.get("command", "") and "command" in remedy:
                        # What it is, its range and risk: that changes nothing.
                        if not remedy["command"].startswith("apm tune explain"):
                            yield remedy["command"]


def advice(path, rule="", part=""):
    for command in commands(read(path), rule, part):
        print(command)
        break


def again(before, after, rule):
    culprits = [entry[1] for entry in expected() if entry[0] == rule and len(entry) > 1] or [""]

    def worst(path):
        found = [f for f in findings(read(path)) if f["rule"] == rule and any(is_of(f, who) for who in culprits)]
        return max(found, key=lambda f: LEVELS.index(f["severity"]), default=None)

    was, now = worst(before), worst(after)
    if now is None:
        print("gone")
        return
    change = f"{was['severity']} {was['value']:.4g} -> {now['severity']} {now['value']:.4g}"
    less = LEVELS.index(now["severity"]) - LEVELS.index(was["severity"])
    if less == 0:
        # A tenth less is no noise.
        less = 1 if rule in BELOW and now["value"] <= was["value"] * 1.1 else 0
        less = less or (1 if rule not in BELOW and now["value"] >= was["value"] * 0.9 else -1)
    print(("less: " if less < 0 else "STAYS: ") + change)
    sys.exit(0 if less < 0 else 1)


def judge(path, kind, level, began, ended):
    seconds = f"{float(ended) - float(began):.1f}"
    try:
        report = read(path)
    except ValueError as error:
        say("BROKEN", seconds, f"no report: {error}", 1)
    loud = [f for f in findings(report) if LEVELS.index(f["severity"]) >= LEVELS.index(level)]
    others = ", ".join(sorted({f["rule"] for f in loud})) or "nothing"
    if kind == "calm":
        named = {rule for rule, *_ in expected()}
        wrong = [f for f in loud if not named or f["rule"] in named]
        if wrong:
            say("FALSE", seconds, "; ".join(f"{f['rule']}: {f['title']}" for f in wrong), 1)
        say("calm", seconds, "no warning" + (f" of {', '.join(sorted(named))}" if named else ""), 0)
    titles = []
    for rule, *culprit in expected():
        of_rule = [f for f in loud if f["rule"] == rule]
        if not of_rule:
            reason = next((s["reason"] for s in report["skipped"] if s["rule"] == rule), None)
            say("MISSED", seconds, f"{rule}{' skipped: ' + reason if reason else ''}; found {others}", 1)
        fitting = [f for f in of_rule if not culprit or is_of(f, culprit[0])]
        if not fitting:
            who = json.dumps([[f["culprits"], f["title"]] for f in of_rule])
            say("MISSED", seconds, f"{rule} without {culprit[0]}: {who[:200]}", 1)
        titles.append(f"{rule}: {fitting[0]['title']}")
    if float(seconds) > float(os.environ.get("WITHIN", "3")):
        say("SLOW", seconds, f"found {others}", 1)
    say("found", seconds, "; ".join(dict.fromkeys(titles)), 0)


def main():
    words = sys.argv[1:]
    if words[0] in ("advice", "again"):
        {"advice": advice, "again": again}[words[0]](*words[1:])
    else:
        judge(*words)


main()
