import dataclasses

from reports.kernels import kernels_card


def entry(op, spread, ops=("Conv",), **more):
    return {"key": {"op": op}, "spread": spread, "kernel_ops": list(ops), **more}


def test_entries_are_grouped_by_op(data):
    entries = [
        entry("conv2d", 0.01),
        entry("conv2d", 0.03, ("QLinearConv",), genuine=False),
        entry("conv2d", 0.02),
        entry("linear", 0.0, ("<b>",), provenance="interpolated"),
    ]
    card = kernels_card(dataclasses.replace(data, profile={"entries": entries}))
    assert "Conv (2); QLinearConv (1)" in card
    assert "measured (2); measured, storage only (1)" in card
    assert "interpolated (1)" in card
    assert "2.0 %" in card
    assert "3.0 %" in card
    assert "<b>" not in card


def test_without_a_table_there_is_no_card(data):
    assert kernels_card(dataclasses.replace(data, profile=None)) is None
