import pytest

from reports.data import load_run
from reports.page import render_report
from tests.support.chromium import BROWSER, browser
from tests.support.synthetic_run import HOSTILE, Recipe, write_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A directory of runs, written once; tests that change one copy it first."""
    return tmp_path_factory.mktemp("w") / "runs"


@pytest.fixture(scope="session")
def demo(runs):
    return write_run(runs / "demo")


@pytest.fixture(scope="session")
def hostile(runs):
    """Layer names that try to break out of the page, and one of 300 characters."""
    return write_run(runs / "hostile", Recipe(names=(HOSTILE, "x" * 300), seeds=(0,)))


@pytest.fixture(scope="session")
def data(demo):
    return load_run(demo)


@pytest.fixture(scope="session")
def report(demo):
    return render_report(demo)


@pytest.fixture(scope="session")
def chromium():
    if BROWSER is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with browser() as page:
        yield page


@pytest.fixture
def page(chromium, report):
    chromium.errors.clear()
    chromium.size(1280, 900)
    chromium.open(report)
    return chromium
