"""A small study as trackers get it."""

import numpy as np

from search.records import JournalLine, Result, to_frame
from search.trackers.base import Record
from tests.support.toy import ToyCosts, ToyJudge, toy_space

SPACE = toy_space(groups=3, choices=3)


def lines(count, strategies=("random", "nsga2"), failed=()):
    for strategy in strategies:
        rng = np.random.default_rng(len(strategy))
        for seq in range(count):
            codes = tuple(int(code) for code in rng.integers(0, 3, 3))
            policy = SPACE.policy(codes)
            (result,) = ToyJudge(SPACE).evaluate([policy])
            if seq in failed:
                result = Result.failure(result.quality_key, result.policy_id, "no memory")
            key = f"{seq:04x}{result.quality_key[:20]}"
            result = Result(
                **{n: getattr(result, n) for n in Result.__slots__} | {"quality_key": key}
            )
            yield JournalLine(result, codes, strategy, 0, "a", seq, 1.0, unix_s=1.7e9 + seq)


def record(folder, count=5, **more):
    table = to_frame(lines(count, **more))
    costs = ToyCosts(SPACE).costs(np.array([[int(c) for c in text] for text in table["codes"]]))
    manifest = {"command": "bitfront-search", "config_hash": "ab", "started": "2026-11-21"}
    objectives = ("ce", "size_bytes")
    return Record("toy", folder, SPACE, table.assign(**costs), objectives, manifest)
