# make demo: from a fresh clone to the comparison of the embedded trace. Needs Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The kernels are compiled once into numba's on-disk cache; their sources say when that has to be done again.
KERNELS := $(wildcard kvopt/trellis/*.py kvopt/anneal/*.py kvopt/policies/kernels/*.py) kvopt/bounds/descent.py kvopt/jit.py

.PHONY: demo test bench bench-quick lint format notebooks study clean

demo: $(VENV)/.warm
	$(BIN)/kvopt compare

test: $(VENV)/.dev $(VENV)/.warm
	$(BIN)/python -m pytest -n auto --dist worksteal

bench: $(VENV)/.bench $(VENV)/.warm
	$(BIN)/python -m tests.benchmarks.run_all

# Minutes in place of hours, to see that every benchmark runs.
bench-quick: $(VENV)/.bench $(VENV)/.warm
	$(BIN)/python -m tests.benchmarks.run_all --quick

# A hundredth of the published study, to see that it runs.
study: $(VENV)/.dev $(VENV)/.warm
	$(BIN)/kvopt study fang2025 --scale hundredth --out build/fang2025 --fresh

notebooks: $(VENV)/.dev $(VENV)/.warm
	$(BIN)/python -m tests.notebooks.execute

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvopt needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

$(VENV)/.warm: $(VENV)/.installed $(KERNELS)
	$(BIN)/python -m kvopt.warmup
	@touch $@
