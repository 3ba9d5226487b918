import pytest

from search import doctor


def run(capsys):
    with pytest.raises(SystemExit) as ended:
        doctor.main([])
    return ended.value.code, capsys.readouterr().out


def test_a_working_installation_passes_every_check(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path))
    code, out = run(capsys)
    assert code == 0
    for name in (
        "python",
        "packages",
        "memory",
        "ray",
        "solver cbc",
        "solver highs",
        "dry evaluation",
    ):
        assert f"ok    {name}" in out
    assert "warn  latency tables     0 in the cache" in out
    assert "fix: bitfront-measure build" in out


def test_a_broken_check_fails_and_the_others_still_run(capsys, monkeypatch):
    def check_luck():
        raise OSError("no luck today")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (check_luck, doctor.check_python))
    code, out = run(capsys)
    assert code == 1
    assert "FAIL  luck               OSError: no luck today" in out
    assert "ok    python" in out


def test_a_missing_package_is_named(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED", ("surely-not-installed",))
    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_packages,))
    code, out = run(capsys)
    assert code == 1
    assert "surely-not-installed is missing" in out


def test_little_memory_is_a_warning_with_a_fix():
    assert doctor._at_least("memory", 1.0, 4.0, "GiB", "do this") == doctor.Verdict(
        "memory", doctor.WARN, "1.0 GiB", "do this"
    )
