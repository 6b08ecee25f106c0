"""A machine that dies, fills or turns a bit: a few of the faults of `scripts/faults`, each run."""

import os
import subprocess
import sys
from pathlib import Path

import faults
from faults import BEGIN, DOC, END, FAULTS, FEW, TIMES, WORKS


def test_nothing_damaged_is_read_and_nothing_finished_is_done_again():
    # A process of its own: it forks, which one with threads must not.
    done = subprocess.run(
        [sys.executable, Path(faults.__file__), "--few"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(faults.REPO)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    tried = sum(n > 0 for times in FEW.values() for n in times)
    assert done.stdout.count("| none |") >= tried


def test_the_table_is_of_all_faults_and_no_promise_was_broken():
    table = DOC.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    assert [row[:2] for row in rows] == [[fault, kind.name] for kind in WORKS for fault in FAULTS]
    for fault, of, times, _, broken, _ in rows:
        number = [kind.name for kind in WORKS].index(of)
        if times != "–":
            assert (times, broken) == (str(TIMES[fault][number]), "none"), (fault, of)
    assert sum(TIMES["kill -9 at a random moment"]) == 200
