"""A second record of every evaluation, synced before its result is used.

``runner.ledger=DIR`` audits the journal: what stands here and not in the merged journals of a
resumed study was lost. It costs one disk sync per evaluation and is meant for audits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from search.records import Result
from search.trial import Judge
from spaces.policy import Policy


class LedgerJudge:
    """Writes ``<trial> <quality key>`` of what a judge answers, one file per process.

    Args:
        judge: does the work.
        folder: directory of the ledger; created when missing.
        trial: ``<strategy>-<seed>``.
    """

    def __init__(self, judge: Judge, folder: Path, trial: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._judge, self._trial = judge, trial
        self._path = folder / f"{trial}-{os.getpid()}.txt"

    def key(self, policy: Policy, split: str = "search") -> str:
        """See :class:`search.trial.Judge`."""
        return self._judge.key(policy, split)

    def evaluate(self, policies: Sequence[Policy], split: str = "search") -> list[Result]:
        """Scores policies and returns when the disk has their keys."""
        results = self._judge.evaluate(policies, split)
        lines = "".join(f"{self._trial} {result.quality_key}\n" for result in results)
        with self._path.open("a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        return results


def read_ledger(folder: Path) -> list[tuple[str, str]]:
    """``(trial, quality key)`` of every whole line of every file, in file order."""
    found = []
    for path in sorted(folder.glob("*.txt")):
        whole = path.read_text().split("\n")[:-1]
        found += [(trial, key) for trial, _, key in (line.partition(" ") for line in whole)]
    return found
