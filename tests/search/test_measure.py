import pytest

from search import measure


def run(capsys, *words):
    code = 0
    try:
        measure.main(list(words))
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def test_help_shows_examples(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "bitfront-measure build task=digits_vit" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bild"], "did you mean 'build'?"),
        (["build", "fast"], "'fast' is not a setting"),
        (["build", "task=digit"], "unknown task 'digit'"),
        (["build", "hw.this.rounds=3"], "rounds is 3"),
        (["build", "hw.this.threads=2"], "expected: 1"),
    ],
)
def test_mistakes_exit_2(capsys, words, message):
    shrunk = ["task.width=2", "task.epochs=1"] if len(words) > 1 and "hw" in words[1] else []
    code, out, err = run(capsys, *words, *shrunk)
    assert code == 2
    assert message in err
    assert out == ""


def test_build_prints_a_table_and_measures_once(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path))
    shrunk = ["task.width=2", "task.epochs=1"]
    code, out, err = run(capsys, "build", *shrunk)
    assert code == 0
    assert "measuring" in err
    assert "QLinearConv" in out
    code, again, err = run(capsys, "build", *shrunk)
    assert code == 0
    assert again == out
    assert "nothing to measure" in err


@pytest.fixture
def tables(tmp_path):
    from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
    from hw_profiles.keys import layer_key
    from hw_profiles.timing import Protocol
    from spaces.choices import parse_choice
    from tests.hw_profiles.layers import conv, entry, profile_of

    keys = [
        layer_key(OnnxRuntimeCpu(Protocol()), conv(cin=c), parse_choice("int8sc/int8ut"))
        for c in (4, 8, 16)
    ]
    for name, factor in (("a", 1.0), ("b", 2.0)):
        profile_of(
            [entry(key, factor * (i + 1), reference_ms=factor) for i, key in enumerate(keys)]
        ).save(tmp_path / f"{name}.json")
    return tmp_path / "a.json", tmp_path / "b.json"


def test_show_prints_a_table(capsys, tables):
    code, out, _ = run(capsys, "show", str(tables[0]))
    assert code == 0
    assert out.count("conv2d") == 3
    assert "Test CPU" in out


def test_compare_tells_ratio_order_and_drift(capsys, tables):
    code, out, _ = run(capsys, "compare", *map(str, tables))
    assert code == 0
    assert "3 entries in both, 0 only in A, 0 only in B" in out
    assert "median 2.000" in out
    assert "Kendall tau 1.000" in out
    assert "reference kernel B / A: 2.000; corrected median 1.000" in out


def test_import_makes_a_table_a_search_can_use(capsys, tmp_path):
    source, target = tmp_path / "times.csv", tmp_path / "board.json"
    source.write_text("name,us8,us32\nstem.0,10,40\nhead,1,4\n")
    words = ["columns=layer=name,w8a8=us8,w32a32=us32", "unit=us", "task.width=2", "task.epochs=1"]
    code, out, _ = run(capsys, "import", str(source), str(target), *words)
    assert code == 0
    assert "board, imported" in out
    assert target.exists()
    code, _, err = run(capsys, "import", str(source), str(target), *words)
    assert code == 2
    assert "exists" in err
    missing = ["build", "hw=imported", f"hw.imported.profile={target}", *words[2:]]
    code, _, err = run(capsys, *missing)
    assert code == 5
    assert "lacks" in err
    assert "stage1.0.conv1 (w8a8)" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show"], "0 tables are named"),
        (["compare", "a.json"], "1 tables are named"),
        (["import", "a.csv"], "1 files are named"),
        (["show", "none.json"], "cannot be read"),
    ],
)
def test_files_are_asked_for(capsys, words, message):
    code, _, err = run(capsys, *words)
    assert code in (2, 5)
    assert message in err


def test_validate_prints_errors_beside_the_noise(capsys):
    code, out, err = run(capsys, "validate", "task.width=2", "task.epochs=1", "space=int8_float")
    assert code == 0
    assert "24 mixed policies drawn by seed" in out
    for word in ("table + conversions", "nodes of each graph", "noise floor", "wall p99"):
        assert word in out
    assert "end to end, twice each" in err


def test_a_table_of_elsewhere_cannot_be_validated(capsys):
    code, _, err = run(capsys, "validate", "hw=mpic", "task.width=2", "task.epochs=1")
    assert code == 2
    assert "not measured on this machine" in err


def test_merge_writes_one_table_and_tells_how_the_two_differ(capsys, tables, tmp_path):
    target = tmp_path / "both.parquet"
    code, out, _ = run(capsys, "merge", *map(str, tables), str(target))
    assert code == 0
    assert "3 entries in both" in out
    assert "reference kernel B / A: 2.000" in out
    code, shown, _ = run(capsys, "show", str(target))
    assert code == 0
    assert shown.count("conv2d") == 3
    code, _, err = run(capsys, "merge", *map(str, tables), str(target))
    assert code == 2
    assert "exists" in err
    code, _, err = run(capsys, "merge", str(tables[0]))
    assert code == 2
    assert "1 tables are named" in err
