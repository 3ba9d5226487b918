"""Spreadsheets become tables: both shapes in closed form, published ones, and every mistake."""

import csv

import numpy as np
import pytest

from hw_profiles.backends import load_backend
from hw_profiles.hw import HwConfig
from hw_profiles.importing import Columns, import_entries, read_rows, width_key
from hw_profiles.table_cost import build_cost_model
from quant.errors import BitfrontError, ProfileError, UsageError
from tests.hw_profiles.layers import conv, linear, profile_of, space_of
from tests.support.shared_data import shared_data

LAYERS = [conv("stem"), linear("fc", 1)]
LONG = Columns.parse("layer=name,weight=w,activation=a,latency=t")


def rows(*values):
    return [dict(zip(("name", "w", "a", "t"), map(str, value), strict=True)) for value in values]


def entries(table, columns=LONG, unit="us", provenance="measured", layers=LAYERS):
    return import_entries(table, columns, layers, unit=unit, provenance=provenance, where="t.csv")


def test_long_rows_become_entries_in_milliseconds():
    found = entries(rows(("stem", 8, 8, 250), ("stem", 4, 8, 125), ("fc", 8, 8, 10)))
    times = {entry.key: entry.latency_ms for entry in found}
    assert times == {
        width_key(LAYERS[0], (8, 8)): 0.25,
        width_key(LAYERS[0], (4, 8)): 0.125,
        width_key(LAYERS[1], (8, 8)): 0.01,
    }
    assert {entry.provenance for entry in found} == {"measured"}


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("s", 2000.0), ("ms", 2.0), ("us", 0.002), ("ns", 2e-6), ("cycles@100MHz", 2e-5)],
)
def test_units_are_converted(unit, expected):
    (entry,) = entries(rows(("fc", 8, 8, 2)), unit=unit)
    assert entry.latency_ms == pytest.approx(expected)


def test_wide_rows_have_a_column_per_pair_of_widths():
    columns = Columns.parse("layer=name,w4a4=t4,w8a8=t8")
    found = entries([{"name": "fc", "t4": "1", "t8": "2"}], columns)
    assert [entry.latency_ms for entry in found] == [0.001, 0.002]


def test_layers_of_one_geometry_share_the_mean():
    twins = [conv("a"), conv("b", 1)]
    (entry,) = entries(rows(("a", 8, 8, 1), ("b", 8, 8, 3)), layers=twins)
    assert entry.latency_ms == pytest.approx(0.002)
    assert entry.spread == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": ""}, "unit of the times is missing"),
        ({"unit": "weeks"}, "unit 'weeks' is unknown"),
        ({"provenance": "guessed"}, "unknown provenance 'guessed'"),
        ({"table": rows(("stam", 8, 8, 1))}, r"(?s)unknown layer 'stam'.*did you mean 'stem'"),
        ({"table": rows(("fc", 8, 8, -1))}, r"(?s)time '-1' is no positive number.*line 2"),
        ({"table": rows(("fc", 8, 8, "nan"))}, "time 'nan' is no positive"),
        ({"table": rows(("fc", 8, 8, "fast"))}, "time 'fast' is no positive"),
        ({"table": rows(("fc", 8, 8, 1), ("fc", 8, 8, 2))}, r"(?s)'fc' has w8a8 twice.*line 3"),
        ({"columns": Columns.parse("layer=nome,w8a8=t")}, r"(?s)no column 'nome'.*'name'"),
    ],
)
def test_mistakes_are_named_with_their_place(change, message):
    given = {"table": rows(("fc", 8, 8, 1)), **change}
    with pytest.raises(BitfrontError, match=message):
        entries(**given)


@pytest.mark.parametrize("text", ["layer=name", "layer=name,weight=w"])
def test_a_column_map_without_times_is_refused(text):
    with pytest.raises(ProfileError, match="names no times"):
        Columns.parse(text)


def test_an_unknown_column_word_is_refused():
    with pytest.raises(UsageError, match="unknown column 'wieght'"):
        Columns.parse("wieght=w,latency=t")


def test_files_without_rows_or_text_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("name,w\n")
    with pytest.raises(ProfileError, match="no rows"):
        read_rows(path)
    with pytest.raises(ProfileError, match="cannot be read"):
        read_rows(tmp_path / "none.csv")


def test_an_imported_table_prices_a_space():
    backend = load_backend(HwConfig(backend="imported", profile="board.json"))
    space = space_of(LAYERS, ("int4sc/int8ut", "int8sc/int8ut"))
    table = rows(("stem", 8, 8, 4), ("stem", 4, 8, 2), ("fc", 8, 8, 3), ("fc", 4, 8, 1))
    profile = profile_of(entries(table, unit="ms"))
    costs = build_cost_model(space, profile, backend).costs(np.array([[0, 0], [1, 0], [1, 1]]))
    assert costs["latency_ms"].tolist() == [3.0, 5.0, 7.0]


def test_a_table_of_half_the_space_lists_what_is_missing():
    backend = load_backend(HwConfig(backend="imported", profile="board.json"))
    space = space_of(LAYERS, ("int4sc/int8ut", "int8sc/int8ut"))
    profile = profile_of(entries(rows(("stem", 8, 8, 4), ("stem", 4, 8, 2))))
    with pytest.raises(ProfileError, match=r"(?s)lacks 2 entries.*fc \(w4a8\), fc \(w8a8\)"):
        build_cost_model(space, profile, backend)


def test_nothing_is_measured_for_an_imported_table():
    backend = load_backend(HwConfig(backend="imported", profile="board.json"))
    for ask in (
        lambda: backend.measure([], str),
        lambda: backend.measure_nodes([], str),
        lambda: backend.network(None, [], None),
    ):
        with pytest.raises(UsageError, match=r"(?s)board.json' was imported.*import again"):
            ask()


def haq_layers(folder):
    with (folder / "mobilenetv2_layers.csv").open() as file:
        found = list(csv.DictReader(file))
    return [
        linear(f"l{i}", i, int(row["cin"]), int(row["cout"]))
        if row["type"] == "fc" or row["out_hw"] in ("", "0")
        else conv(
            f"l{i}", i, int(row["cin"]), int(row["cout"]), int(row["out_hw"]),
            int(row["kernel"]), int(row["groups"]),
        )
        for i, row in enumerate(found)
    ]  # fmt: skip


def test_the_published_haq_table_is_read_whole():
    folder = shared_data("haq")
    layers = haq_layers(folder)
    with (folder / "mobilenetv2_latency_table.csv").open() as file:
        table = [{**row, "layer": f"l{row['layer_index']}"} for row in csv.DictReader(file)]
    usable = [row for row in table if int(row["w_bits"]) >= 2 and int(row["a_bits"]) >= 2]
    columns = Columns.parse("layer=layer,weight=w_bits,activation=a_bits,latency=cost")
    found = import_entries(usable, columns, layers, unit="cycles@100MHz", provenance="simulated")
    assert len(layers) == 53
    times = {entry.key: entry.latency_ms for entry in found}
    cost = {(int(r["layer_index"]), int(r["w_bits"]), int(r["a_bits"])): r["cost"] for r in table}
    for layer, w, a in ((1, 8, 8), (3, 4, 2), (0, 2, 7)):
        expected = float(cost[layer, w, a]) / 1e5
        assert times[width_key(layers[layer], (w, a))] == pytest.approx(expected)
    assert {entry.provenance for entry in found} == {"simulated"}


def test_the_published_t4_latencies_of_hawq_v3_are_read_whole():
    folder = shared_data("hawq_v3")
    table = read_rows(folder / "resnet18_layers.csv")
    layers = [
        conv(row["layer"], i, int(row["in_channels"]), int(row["out_channels"]),
             int(row["out_hw"]), int(row["kernel"]))
        for i, row in enumerate(table)
    ]  # fmt: skip
    columns = Columns.parse("layer=layer,w4a4=lat_int4,w8a8=lat_int8")
    found = import_entries(table, columns, layers, unit="ms", provenance="published")
    pairs = {(e.key, e.latency_ms) for e in found}
    assert len(pairs) == len(found)
    for row, layer in zip(table, layers, strict=True):
        key = width_key(layer, (8, 8))
        same = [i for i, other in enumerate(layers) if width_key(other, (8, 8)) == key]
        expected = np.mean([float(table[i]["lat_int8"]) for i in same])
        (entry,) = [e for e in found if e.key == key]
        assert entry.latency_ms == pytest.approx(expected)
        assert float(row["lat_int8"]) > 0


def test_energies_come_with_the_times():
    long = Columns.parse("layer=name,weight=w,latency=t,energy=e")
    (entry,) = entries([{"name": "fc", "w": "8", "t": "1", "e": "0.5"}], long)
    assert (entry.latency_ms, entry.energy_mj) == (0.001, 0.5)
    wide = Columns.parse("layer=name,w4a4=t4,w8a8=t8,energy_w8a8=e8")
    found = entries([{"name": "fc", "t4": "1", "t8": "2", "e8": "0.7"}], wide)
    assert [entry.energy_mj for entry in found] == [None, 0.7]
    with pytest.raises(ProfileError, match=r"(?s)energy 'much' is no positive.*line 2"):
        entries([{"name": "fc", "w": "8", "t": "1", "e": "much"}], long)
    with pytest.raises(ProfileError, match="no column 'e8'"):
        entries([{"name": "fc", "t4": "1", "t8": "2"}], wide)
