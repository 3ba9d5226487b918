"""front.json and policies/ of a synthetic run."""

from search import fronts
from search.records import decode_codes
from search.stats import wilson
from tests.support.synthetic_manifest import CLASSES, FLOAT_CE


def make_front(space, judge, table, recipe):
    tags = fronts.by_tag(table)
    ids = table["policy_id"].tolist()
    provenance = judge.provenance()
    front = {
        "state": "final",
        "quality": recipe.quality,
        "costs": {metric: provenance[metric] for metric in recipe.costs},
        "reference": {},
        "fronts": {},
        "hypervolume": {},
        "picks": [],
        "baselines": [ids[row] for row in tags.values()],
        "float": ids[tags["fp32"]],
        "uniform_int8": ids[tags["w8a8"]],
    }
    shown = set(tags.values())
    for metric in recipe.costs:
        reference = fronts.reference_for(space, judge, metric, recipe.quality, FLOAT_CE, CLASSES)
        rows = fronts.front_rows(table, recipe.quality, metric)
        fronts.add_front(front, table, rows, metric, reference, tolerance=0.01)
        shown |= set(rows)
    front["policies"] = {ids[row]: entry_of(judge, table.iloc[row]) for row in sorted(shown)}
    return front


ENTRY = (
    *("tag", "codes", "ce", "kl", "accuracy", "standard_error", "n", "size_bytes", "bops"),
    *("latency_ms", "mean_weight_bits", "mean_activation_bits", "strategy", "seed"),
)


def entry_of(judge, row):
    item = {key: getattr(row[key], "item", lambda value=row[key]: value)() for key in ENTRY}
    item["label"] = f"w{row['mean_weight_bits']:.1f}a{row['mean_activation_bits']:.1f}"
    test = judge.result(decode_codes(row["codes"]), "test")
    low, high = wilson(test.accuracy * test.n, test.n)
    item["test"] = {
        "ce": test.ce,
        "kl": test.kl,
        "accuracy": test.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "standard_error": test.standard_error,
        "n": test.n,
    }
    return item
