import dataclasses
import re

import pytest

from reports import figures
from reports.data import load_run
from reports.figure import draw
from reports.page import page_html, render_report
from reports.payload import build_payload
from tests.support.synthetic_run import HOSTILE, Recipe, write_run


@pytest.fixture(scope="module")
def text(report):
    return report.read_text()


def own_part(text):
    """The page without plotly.js, whose source holds addresses it never asks for here."""
    return max(re.split(r"<script>(?=\s*/\*\*)", text), key=lambda part: part.count("<section"))


def test_two_renders_are_byte_identical(demo, report, monkeypatch):
    first = report.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert render_report(demo).read_bytes() == first


def test_sections_come_in_the_order_of_reading(text):
    names = re.findall(r'<section[^>]*id="([\w-]+)"', text)
    wanted = ["answer", "health", "front", "policy", "bits", "hypervolume", "candidates"]
    assert [name for name in names if name in wanted] == wanted
    assert names[-1] == "provenance"


def test_library_is_inlined_once_and_nothing_is_linked(text):
    assert text.count("plotly.js v") == 1
    page = own_part(text)
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert 'src="' not in page
    assert "default-src &#x27;none&#x27;" in text


def test_weight(report):
    assert report.stat().st_size < 5.6e6


def test_answer_cards_carry_the_export_command(text, data):
    for pick in data.front.picks:
        assert f'data-export="{pick.policy_id}"' in text


def test_hostile_names_do_no_harm(hostile):
    text = render_report(hostile).read_text()
    assert "<img src=x" not in text
    assert text.count("</script>") == text.count("<script")
    assert "x" * 300 in text  # whole in the data, shortened only where drawn


def test_no_machine_path_gets_in(demo, text):
    assert str(demo.parent) not in text


def test_a_failing_figure_becomes_a_card(data, monkeypatch):
    from reports.figures.front import FrontFigure

    def broken(self, info):
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr(FrontFigure, "plot", broken)
    drawn = draw(FrontFigure("size_bytes"), data)
    assert drawn.error == f"RuntimeError: {HOSTILE}"
    page = page_html(data)
    assert "This figure could not be drawn: RuntimeError" in page
    assert "<img src=x" not in page
    assert 'id="bits"' in page


def test_every_figure_draws_on_a_whole_run(data):
    for figure in figures.figures_for(data):
        drawn = draw(figure, data)
        assert not drawn.error, drawn.error
        assert not drawn.missing, drawn.missing
        assert drawn.alt.endswith(".")
        assert all(len(row) == len(drawn.table.columns) for row in drawn.table.rows)


def test_figure_ids_are_unique(text):
    ids = re.findall(r' id="(fig-[\w-]+)"', text)
    assert len(ids) == len(set(ids)) > 5


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (Recipe(state="running", seeds=(0,)), "still in progress"),
        (Recipe(seeds=(0,), measured=0), "was not checked end to end"),
        (Recipe(seeds=(0,), strategies=()), "Only baselines were evaluated"),
        (Recipe(layers=2, seeds=(0,), per_trial=3, failed=3), "candidates failed"),
    ],
    ids=["running", "unchecked", "baselines", "failures"],
)
def test_unusual_runs_tell_the_truth(tmp_path, recipe, told):
    page = render_report(write_run(tmp_path / "runs" / "x", recipe)).read_text()
    assert told in page


def test_all_candidates_failed(data):
    failed = data.table.assign(status="failed", ce=float("nan"), error="out of memory")
    front = dataclasses.replace(
        data.front, fronts={}, picks=(), policies={}, baselines=(), float_id=None, int8_id=None
    )
    page = page_html(dataclasses.replace(data, table=failed, front=front))
    assert "All candidates failed" in page
    assert "The float model was not evaluated" in page


def test_one_front_point(data):
    one = {cost: ids[:1] for cost, ids in data.front.fronts.items()}
    front = dataclasses.replace(data.front, fronts=one, picks=())
    page = page_html(dataclasses.replace(data, front=front))
    assert "could not be drawn" not in page


def test_payload_rows_are_the_unique_candidates(data):
    payload = build_payload(data)
    assert payload["columns"]["policy_id"] == data.unique["policy_id"].tolist()
    ids = payload["columns"]["policy_id"]
    for cost, rows in payload["fronts"].items():
        assert [ids[row] for row in rows] == list(data.front.fronts[cost])
    assert ids[payload["int8"]] == data.front.int8_id
    assert payload["columns"]["ce"][99] == pytest.approx(data.unique["ce"].iloc[99], rel=1e-5)
    failed = payload["columns"]["ok"].index(0)
    assert payload["columns"]["ce"][failed] is None


def test_loading_twice_gives_the_same_page(demo):
    assert page_html(load_run(demo)) == page_html(load_run(demo))


def test_several_devices_share_one_report(data):
    from reports.fronts import CostInfo, rebuild_front

    board = data.table["latency_ms"] * 3 + data.table["size_bytes"] * 1e-6
    table = data.table.assign(**{"latency_ms@board": board})
    costs = {**data.front.costs, "latency_ms@board": CostInfo("simulated", "board model")}
    front = rebuild_front(table, "ce", costs, 0.01, (), data.front.reference)
    page = page_html(dataclasses.replace(data, table=table, front=front))
    assert "Latency on board" in page
    assert "predicted latency on board (ms), simulated table" in page
    assert "The latency table is simulated, not measured" in page
    assert 'id="fig-bits-latency_ms-board"' in page
