import json
import shutil

import pandas as pd
import pytest

from reports.check import check_run, failures
from reports.page import render_report
from search.files import write_table


@pytest.fixture
def copy(demo, tmp_path):
    target = tmp_path / "runs" / "demo"
    shutil.copytree(demo, target, ignore=shutil.ignore_patterns("report.html"))
    return target


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def problems(run):
    return failures(check_run(run))


def test_an_untouched_run_passes(copy):
    render_report(copy)
    assert problems(copy) == []


def test_a_changed_loss_is_found(copy):
    table = pd.read_parquet(copy / "trials.parquet")
    table.loc[20, "ce"] -= 0.01
    write_table(copy / "trials.parquet", table)
    assert any("column 'ce' differs in 1 rows" in line for line in problems(copy))


def test_a_dropped_row_is_found(copy):
    write_table(copy / "trials.parquet", pd.read_parquet(copy / "trials.parquet").iloc[:-1])
    assert any("485 rows, the journals have 486" in line for line in problems(copy))


def test_a_point_added_to_the_front_is_found(copy):
    def add(front):
        extra = next(i for i in front["baselines"] if i not in front["fronts"]["size_bytes"])
        front["fronts"]["size_bytes"].append(extra)

    edit(copy / "front.json", add)
    assert any("the front of size_bytes differs" in line for line in problems(copy))


def test_a_nicer_value_in_front_json_is_found(copy):
    def flatter(front):
        front["policies"][front["fronts"]["size_bytes"][0]]["accuracy"] = 0.99

    edit(copy / "front.json", flatter)
    assert any("front.json says accuracy 0.99" in line for line in problems(copy))


def test_a_moved_pick_is_found(copy):
    def move(front):
        front["picks"][1]["policy_id"] = front["fronts"]["size_bytes"][0]

    edit(copy / "front.json", move)
    assert any("picks differ: knee of size_bytes" in line for line in problems(copy))


def test_a_larger_hypervolume_is_found(copy):
    edit(copy / "front.json", lambda f: f["hypervolume"]["size_bytes"].update(all=0.999))
    assert any("hypervolume of all in size_bytes" in line for line in problems(copy))


def test_a_changed_policy_file_is_found(copy):
    path = sorted((copy / "policies").glob("*.json"))[0]
    edit(path, lambda policy: policy["choices"].update(stem="float32/float32"))
    assert any("holds another policy" in line for line in problems(copy))
    path.unlink()
    assert any("is missing" in line for line in problems(copy))


def test_a_changed_configuration_is_found(copy):
    path = copy / "config.yaml"
    path.write_text(path.read_text().replace('"evaluations": 40', '"evaluations": 4'))
    assert any("config.yaml hashes to" in line for line in problems(copy))


def test_changed_sizes_are_found(copy):
    table = pd.read_parquet(copy / "trials.parquet")
    write_table(copy / "trials.parquet", table.assign(size_bytes=table["size_bytes"] * 0.9))
    assert any("size_bytes differs in 486 rows" in line for line in problems(copy))


def test_an_edited_page_is_found(copy):
    page = render_report(copy)
    page.write_text(page.read_text().replace("smaller than", "far smaller than", 1))
    assert any("report.html differs" in line for line in problems(copy))
