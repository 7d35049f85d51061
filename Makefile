# make demo: from a fresh clone to the comparison of the embedded trace. Needs Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# All that is installed below has the versions that are written here.
LOCK := requirements/lock.txt
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL = $(PIP) install --constraint $(LOCK) --no-build-isolation --editable
# The kernels are compiled once into numba's on-disk cache; their sources say when that has to be done again.
KERNELS := $(wildcard kvopt/trellis/*.py kvopt/anneal/*.py kvopt/policies/kernels/*.py) kvopt/bounds/descent.py kvopt/jit.py

.PHONY: demo test environments bench bench-quick lint format notebooks study lock clean

demo: $(VENV)/.warm
	$(BIN)/kvopt compare

test: $(VENV)/.dev $(VENV)/.warm
	$(BIN)/python -m pytest -n auto --dist worksteal

# The smoke suite with the newest and with the lowest versions that pyproject.toml allows, each in a fresh environment.
environments: $(VENV)/.dev
	$(BIN)/python -m tests.environments.run

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

# Pins anew what pyproject.toml asks for, as little changed as may be; make lock UPGRADE=--upgrade takes the newest.
UV ?= uv==0.13.9
UPGRADE ?=
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	build/lock/bin/uv pip compile pyproject.toml --group lock --extra dev --extra notebook --extra bench --universal \
	    --python-version 3.11 $(UPGRADE) --quiet --annotation-style line --custom-compile-command 'make lock' \
	    --output-file $(LOCK)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvopt needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(LOCK) | $(BIN)/python
	$(PIP) install --constraint $(LOCK) setuptools
	$(INSTALL) .
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK) | $(VENV)/.installed
	$(INSTALL) '.[dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(LOCK) | $(VENV)/.dev
	$(INSTALL) '.[dev,bench]'
	@touch $@

$(VENV)/.warm: $(VENV)/.installed $(KERNELS)
	$(BIN)/python -m kvopt.warmup
	@touch $@
