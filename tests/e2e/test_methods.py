"""Studies with methods of many kinds: selected by name, recorded, different in effect."""

import pytest

from quant.errors import UsageError
from search.api import search
from tests.e2e.conftest import read

LOCAL = ["runner=local", "ladder.policies=6", "hw.this.check=false"]


def study(model, splits, folder, *overrides, strategies=("random",), evaluations=4):
    return search(
        model,
        **splits,
        strategies=list(strategies),
        evaluations=evaluations,
        run_dir=folder / "run",
        name="methods",
        overrides=[*LOCAL, *overrides],
    )


def test_a_ladder_measures_its_agreement_and_decides_the_last_front(
    tiny_model, splits, tmp_path, capsys
):
    result = study(tiny_model, splits, tmp_path, "ladder.rungs=[gptq]", evaluations=6)
    assert "rungs rtn_mse and gptq: Kendall tau" in capsys.readouterr().err
    front = read(result.run_dir / "front.json")
    ladder = front["ladder"]
    assert ladder["method"] == "gptq"
    (agreement,) = ladder["agreements"]
    assert 4 <= agreement["n"] <= 6, "of six drawn, two may be the same"
    assert set(ladder["fronts"]) == set(front["fronts"])
    for ids in ladder["fronts"].values():
        assert ids
        assert all("test" in ladder["policies"][policy] for policy in ids)
    both = set(front["policies"]) & set(ladder["policies"]) - set(front["baselines"])
    assert any(front["policies"][p]["kl"] != ladder["policies"][p]["kl"] for p in both)


def test_one_rung_records_no_ladder(tiny_model, splits, tmp_path):
    result = study(tiny_model, splits, tmp_path)
    assert "ladder" not in read(result.run_dir / "front.json")


def test_no_calibration_data_is_enough_for_data_free_methods(tiny_model, splits, tmp_path):
    without = {**splits, "calibration": None}
    result = study(
        tiny_model, without, tmp_path, "method=zeroq", "method.samples=20",
        strategies=["zeroq_pareto", "additive"],
    )  # fmt: skip
    assert (result.table["status"] == "ok").all()
    manifest = read(result.run_dir / "manifest.json")
    assert manifest["task"]["n_calibration"] == 20
    assert set(manifest["score_seconds"]) == {"zeroq", "kl"}


@pytest.mark.parametrize("method", ["rtn_mse", "gptq"])
def test_methods_that_need_data_say_so(tiny_model, splits, tmp_path, method):
    without = {**splits, "calibration": None}
    with pytest.raises(UsageError, match="has no calibration split") as caught:
        study(tiny_model, without, tmp_path, f"method={method}")
    assert "method=zeroq" in caught.value.fix


def test_scores_with_labels_are_refused_on_made_up_inputs(tiny_model, splits, tmp_path):
    with pytest.raises(UsageError, match="needs labels"):
        study(tiny_model, splits, tmp_path, "method=dfq", strategies=["hawq"])


def test_data_free_methods_do_not_see_the_calibration_split(tiny_model, splits, tmp_path):
    first = study(tiny_model, splits, tmp_path / "a", "method=dfq")
    other = {**splits, "calibration": (splits["calibration"][0] * 9, splits["calibration"][1])}
    second = study(tiny_model, other, tmp_path / "b", "method=dfq")
    assert first.table["kl"].tolist() == second.table["kl"].tolist()


@pytest.mark.parametrize("space", ["methods", "codebooks"])
def test_spaces_of_methods_and_codebooks_run_to_the_end(tiny_model, splits, tmp_path, space):
    result = study(tiny_model, splits, tmp_path, f"space={space}", evaluations=8)
    random = result.table[result.table["strategy"] == "random"]
    assert (random["status"] == "ok").all()
    assert random["kl"].nunique() > 4
    assert random["size_bytes"].nunique() > 4
    texts = [read(p)["choices"].values() for p in (result.run_dir / "policies").glob("*.json")]
    assert any(
        "+" in text or "vq" in text or "bc" in text for choices in texts for text in choices
    )


def test_coded_sizes_are_an_option(tiny_model, splits, tmp_path):
    result = study(tiny_model, splits, tmp_path, "objective.coded_size=true")
    front = read(result.run_dir / "front.json")
    layers = len(read(result.run_dir / "layers.json")["layers"])
    for item in front["policies"].values():
        assert 0 < item["coded_bytes"] <= item["size_bytes"] + layers
    low = min(front["policies"].values(), key=lambda item: item["size_bytes"])
    assert low["coded_bytes"] < low["size_bytes"]
