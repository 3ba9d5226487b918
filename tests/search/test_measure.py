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
def test_mistakes_exit_2(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path))
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
