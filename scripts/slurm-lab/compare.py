#!/usr/bin/env python3
"""compare.py FOLDER CLUSTER - holds what `amie-runner parse` read of sacct against slurmdbd's own job table.

Reads table.tsv and tres.tsv (from MariaDB) and for each reading NAME.json, NAME.quarantine, NAME.status. Each row of
each reading is one check; the last line printed is `N passed, N failed`.
"""

import json
import os
import sys

NO_VAL, INFINITE = 4294967294, 4294967295
STATES = ["PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
          "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"]
FLAGS = {0x400: "REQUEUED", 0x2000: "RESIZING"}      # job_state_string(): a flag wins over the base state
LIVE = {"PENDING", "RUNNING", "SUSPENDED"}
FORGED = "999001"                                    # the job id in the row that a job's name pretends to be

folder, cluster = sys.argv[1:]
passed = failed = 0


def check(good, text):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED: " + text)


def lines(name):
    with open(os.path.join(folder, name), encoding="utf-8", newline="\n") as file:
        return file.read().split("\n")[:-1]


def unhex(cell):
    return bytes.fromhex(cell).decode("utf-8")


def moment(cell):
    return None if int(cell) in (0, NO_VAL, INFINITE) else int(cell)


def counts(cell):
    return {int(key): int(value) for key, value in (part.split("=") for part in cell.split(",") if part)}


def job_table():
    """(raw id, submit) -> what slurmdbd knows of the run, under the names that `parse` uses."""
    gpu = [int(row[0]) for row in (line.split("\t") for line in lines("tres.tsv")) if row[1:] == ["gres", "gpu"]]
    assert len(gpu) == 1, gpu
    table = {}
    for line in lines("table.tsv"):
        (raw, submit, eligible, start, end, suspended, state, exit_code, array, task, het, offset, account, partition,
         user, qos, name, allocated, requested) = line.split("\t")
        state = int(state)
        word = FLAGS[state & ~0xFF] if state & ~0xFF else STATES[state]
        job_id, kind = raw, "run"
        if het != "0":
            job_id = het + "+" + offset
        elif array != "0":
            job_id, kind = (array + "_" + task, "run") if int(task) != NO_VAL else (array + "_[", "parent")
        has, wants = counts(allocated), counts(requested)
        start, end = moment(start), moment(end)
        elapsed = None
        if end is not None:
            elapsed = max(0, end - start - int(suspended)) if start is not None else 0
        table[(raw, int(submit))] = {
            "job_id": job_id, "raw_id": raw, "cluster": cluster, "user": unhex(user) or None,
            "account": unhex(account) or None, "partition": unhex(partition), "qos": unhex(qos), "name": unhex(name),
            "state": word, "submit": int(submit), "eligible": moment(eligible), "start": start, "end": end,
            "elapsed": elapsed, "suspended": int(suspended), "nodes": has.get(4), "cores": has.get(1),
            "gpus": has.get(gpu[0], 0) if has else None, "mem_bytes": has[2] << 20 if 2 in has else None,
            "requested_mem": wants[2] << 20 if 2 in wants else None, "allocated": bool(has),
            "exit_code": int(exit_code) >> 8 & 0xFF, "signal": int(exit_code) & 0x7F, "kind": kind,
        }
    return table


def disagreements(found, truth, compared):
    """The fields in which a row that was read differs from the table's."""
    for field in compared:
        here, there = found.get(field, "(no such field)"), truth[field]
        if field == "job_id" and truth["kind"] == "parent":
            good = isinstance(here, str) and here.startswith(there)
        elif field == "state":
            good = isinstance(here, str) and here.split(" ")[0].upper() == there
        elif field in ("nodes", "cores", "gpus") and not truth["allocated"]:
            good = here in (None, 0)     # nothing was given: 22.05 prints what was asked for, which is not usage
        elif field == "mem_bytes" and not truth["allocated"]:
            good = here in (None, truth["requested_mem"])
        elif field in ("elapsed", "suspended") and truth["end"] is None:
            good = True                  # still moving
        elif field in ("exit_code", "signal"):
            good = (here or 0) == there
        else:
            good = here == there
        if not good:
            yield "%s is %r, the table says %r" % (field, here, there)


ALWAYS = ["job_id", "raw_id", "cluster", "user", "account", "partition", "qos", "state", "submit", "eligible", "start",
          "end", "elapsed", "nodes", "cores", "gpus", "mem_bytes", "kind"]
table = job_table()


def reading(name, extra, wanted, hostile=False):
    """One way of reading: each row against the table, and the set of rows against `wanted`."""
    rows = [json.loads(line) for line in lines(name + ".json")]
    quarantined = lines(name + ".quarantine") if os.path.exists(os.path.join(folder, name + ".quarantine")) else []
    status = int(lines(name + ".status")[0])
    seen = {}
    for row in rows:
        key = (row["raw_id"], row["submit"])
        if hostile and row["raw_id"] == FORGED:
            print("%s: the forged row stands among the true ones, as it must with a plain delimiter" % name)
            continue
        if key not in table:
            check(False, "%s: %s is not in the table" % (name, key))
            continue
        check(key not in seen, "%s: %s was read twice" % (name, key)) if key in seen else None
        wrong = list(disagreements(row, table[key], [f for f in ALWAYS + extra if not (hostile and f == "name")]))
        check(not wrong, "%s: job %s: %s" % (name, table[key]["job_id"], "; ".join(wrong)))
        seen[key] = row
    missing = [table[key]["job_id"] for key in wanted if key not in seen]
    if hostile:
        # names with | and newlines tear their own rows, and may take a neighbour with them: into quarantine, not away
        check(quarantined, "%s: torn rows, and nothing is in quarantine" % name)
        check(len(missing) <= len(quarantined), "%s: lost: %s" % (name, missing))
    else:
        check(not quarantined, "%s: in quarantine: %s" % (name, quarantined[:3]))
        check(not missing, "%s: lost: %s" % (name, missing))
        check(status == 0, "%s: exit status %d: %s" % (name, status, lines(name + ".err")[:5]))
    print("%s: %d rows, %d in quarantine" % (name, len(rows), len(quarantined)))


states = {row["state"] for row in table.values()}
for state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "REQUEUED", "RESIZING", "PENDING"):
    check(state in states, "no job of this run ended as %s: the test has lost a case" % state)
check(any(row["suspended"] for row in table.values() if row["end"]), "no job was suspended: the test has lost a case")
check(len({row["gpus"] for row in table.values()}) >= 4, "not all GPU cases ran")
ended = [key for key, row in table.items() if row["end"] is not None and row["state"] not in LIVE]
# without -s sacct leaves out what never became eligible
eligible = [key for key in ended if table[key]["eligible"] is not None]
reading("collect", ["suspended"], ended)
reading("collect-name", ["suspended", "name"], ended)
reading("epoch", ["exit_code", "signal"], eligible)
reading("local", ["exit_code", "signal"], eligible)
reading("name", ["exit_code", "signal"], eligible, hostile=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(1 if failed else 0)
