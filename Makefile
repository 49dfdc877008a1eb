# make help lists what this file can do.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
# Where this is set, every process compiles torch and Lightning anew: 26 s of CPU instead of 10.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo figure test test-slow test-all lint type docs build bench simulate clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# One marker file: a second call installs nothing, a changed pyproject.toml installs again.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv || { echo "error: no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --editable '.[dev]'
	@touch $@

install: .venv/.installed  ## create .venv and install everything into it

demo: .venv/.installed  ## distil digits in 64 shadow models, audit them, show the table (minutes)
	$(BIN)/python run.py method=distill attack=lira -m seed=0..63

figure: .venv/.installed  ## all paradigms on digits: the privacy-accuracy figure and table (minutes)
	$(BIN)/python run.py experiment=paper -m

test: .venv/.installed  ## the fast tests
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

test-slow: .venv/.installed  ## sweeps that are killed and resumed, pages in a browser
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test-all: test test-slow  ## all tests

lint: .venv/.installed  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/.installed  ## mypy
	$(BIN)/mypy

# Apart from .installed, so that tests do not wait for what only the site needs.
.venv/.docs: .venv/.installed
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --editable '.[docs]'
	@touch $@

docs: .venv/.docs  ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "written: site/index.html"

build: .venv/.installed  ## build the sdist and the wheel into dist/
	rm -rf dist
	$(BIN)/uv build --no-build-isolation --out-dir dist

bench: .venv/.installed  ## measure what docs/results.md claims about speed
	$(BIN)/python -m benchmarks.lira
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.framework
	$(BIN)/python -m benchmarks.arithmetic
	$(BIN)/python -m benchmarks.dpsgd
	$(BIN)/python -m benchmarks.tracking
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.check
	$(BIN)/python -m benchmarks.page

simulate: .venv/.installed  ## power, coverage and false alarms of the audit in simulation (hours)
	$(BIN)/python -m benchmarks.power
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.false_alarms

clean:  ## remove the environment and caches, keep multirun/
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
