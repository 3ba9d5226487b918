import pytest

from quant.errors import DataError, UsageError
from reports import pictures
from reports.data import load_run
from tests.support.chromium import BROWSER
from tests.support.synthetic_run import Recipe, write_run


def test_data_urls():
    assert pictures.decode_data_url("data:image/svg+xml,%3Csvg%2F%3E") == b"<svg/>"
    assert pictures.decode_data_url("data:image/png;base64,iVBORw==") == b"\x89PNG"


def test_unknown_kind(data, tmp_path):
    with pytest.raises(UsageError, match="gif"):
        pictures.write_pictures(data, tmp_path, "gif")


def test_without_a_browser_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="need a browser") as caught:
        pictures.find_browser()
    assert "apt-get install chromium" in caught.value.fix


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_every_figure_becomes_a_picture(tmp_path):
    recipe = Recipe(seeds=(0,), per_trial=8, layers=4, costs=("size_bytes",))
    data = load_run(write_run(tmp_path / "runs" / "x", recipe))
    paths = pictures.write_pictures(data, tmp_path / "figures", "svg")
    assert {path.stem for path in paths} >= {"front-size_bytes", "bits-size_bytes", "log"}
    for path in paths:
        assert path.read_bytes().startswith(b"<svg")
