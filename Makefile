# make demo: search the demonstration task and write runs/demo/report.html
# make test: lint, types, import rules and every test that is not marked heavy
# make test-all: the same and the heavy tests: kills, two nodes, repeated training, all published figures
# All set up .venv on first use and work offline afterwards.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/pytest --dist worksteal --durations 10
export OMP_NUM_THREADS ?= 1

.NOTPARALLEL:
.PHONY: demo test test-all lint check check-heavy setup clean

demo: $(READY)
	$(BIN)/bitfront-search +experiment=demo

test: lint check

test-all: test check-heavy

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Three processes on two cores: some tests wait for Ray to start and for one another.
check: $(READY)
	@command -v chromium >/dev/null || echo "note: chromium is not installed, browser tests are skipped (Debian: apt-get install chromium)"
	$(PYTEST) -n 3 -m "not heavy"

check-heavy: $(READY)
	$(PYTEST) -n 2 -m heavy

setup: $(READY)

# torch comes first and by itself: with it in place no later requirement draws in another build.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
