"""Reads lines of tlc.sh and compares each with the explorer's report."""

import json
import subprocess
import sys

# Names in Lock.tla and in the explorer's reports.
PROPERTIES = {
    "S1NoLostUpdate": "S1 no lost update",
    "S1NoStaleRead": "S1 no stale read",
    "S2OneHolder": "S2 one holder",
    "S3Whole": "S3 never torn",
    "S5NoLeftovers": "S5 nothing is left",
    "S7Finishes": "S7 everyone finishes",
}


def explorer(program, protocol, writers, readers, saves):
    """States, depth and violated properties with their steps."""
    command = [program, "check", "lock", "--protocol", protocol,
               "--writers", writers, "--readers", readers, "--saves", saves,
               "--engine", "explore", "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    rows = json.loads(done.stdout)
    assert all(row["coverage"] == "exhaustive" for row in rows), rows
    violated = {row["property"]: row["steps"] for row in rows
                if row["verdict"] == "violated"}
    return rows[0]["states"], rows[0]["depth"], violated


def main():
    program = sys.argv[1]
    equal = different = 0
    form = "{:10} {:>2}w+{}r x{}  {:>7} {:>9}  {:>5} {:>8}  {}"
    print(form.format("protocol", "", "", "", "TLC", "explorer", "depth",
                      "explorer", "violated, in steps: TLC / explorer"))
    for line in sys.stdin:
        tool, protocol, writers, readers, *pairs = line.split()
        assert tool == "tlc", line
        facts = dict(pair.split("=", 1) for pair in pairs)
        states, depth, violated = explorer(
            program, protocol, writers, readers, facts["saves"])
        same = (int(facts["states"]) == states
                and int(facts["depth"]) == depth)
        texts = []
        for theirs, ours in PROPERTIES.items():
            found = facts[theirs]
            wanted = "holds"
            if ours in violated:
                wanted = f"violated:{violated[ours]}"
            same = same and found == wanted
            if (found, wanted) != ("holds", "holds"):
                texts.append(f"{ours[:2]} {found.split(':')[-1]}/"
                             f"{wanted.split(':')[-1]}")
        print(form.format(protocol, writers, readers, facts["saves"],
                          facts["states"], states, facts["depth"], depth,
                          ", ".join(texts) or "none / none"),
              "" if same else "  DIFFERENT")
        equal, different = equal + same, different + (not same)
    print(f"{equal} configurations equal, {different} different")
    sys.exit(0 if equal and not different else 1)


main()
