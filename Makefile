# The two commands of the README, and what they are made of.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup search test test-faults lint evidence

help:
	@echo "make search        set up and run a search on the digits task (CPU, SQLite), with its result printed"
	@echo "make test          set up and run the tests"
	@echo "make test-faults   the long ones: searches whose drivers and workers are killed"
	@echo "make evidence      the tables of docs/evidence.md, from the shipped benchmark, put into the page"
	@echo "make lint          ruff, mypy and the import contracts"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aquasurf-ray needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV): PyTorch and Ray take about 6 GB and a few minutes the first time"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' >$(VENV)/install.log 2>&1 || \
		{ tail -n 20 $(VENV)/install.log >&2; echo "set-up failed; all of it is in $(VENV)/install.log" >&2; exit 1; }
	@touch $@

search: $(STAMP)
	$(BIN)/aquasurf search digits --name digits --space three-node --candidates 200 --evaluations 40 \
		--workers 2 --cpus-per-worker 0.5

PYTEST := $(BIN)/python -m pytest --numprocesses 2

test: $(STAMP)
	$(PYTEST) --dist loadfile --no-loadscope-reorder -m "not faults"

test-faults: $(STAMP)
	$(PYTEST) --dist load -m faults tests/faults

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

evidence: $(STAMP)
	$(BIN)/python benchmarks/evidence.py
