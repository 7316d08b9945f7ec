# The two commands of the README, and the commands of development.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup search test test-faults reliability test-deploy lint audit evidence

help:
	@echo "make search        set up, search on MNIST-1D (CPU, SQLite), and say whether a function beats the baselines"
	@echo "make test          set up and run the tests, except for the slow ones"
	@echo "make test-faults   the slow tests, and whole searches under faults of every kind"
	@echo "make reliability   put the counts of the last make test-faults into docs/reliability.md"
	@echo "make test-deploy   run searches on a real Slurm and on whole Ray clusters, if their packages are installed"
	@echo "make evidence      recompute the tables of the pages of evidence from the installed benchmarks"
	@echo "make audit         list known vulnerabilities of the pinned dependencies, if their database can be reached"
	@echo "make lint          run ruff, mypy and the import contracts"
	@echo "make test-docs     run every code block of README and docs, in order, page by page"
	@echo "make docs          build the documentation site into build/site"

setup: $(STAMP)

$(STAMP): pyproject.toml benchmark_data/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aquasurf-ray needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV): PyTorch and Ray take about 6 GB and a few minutes the first time"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' -e ./benchmark_data >$(VENV)/install.log 2>&1 || \
		{ tail -n 20 $(VENV)/install.log >&2; echo "set-up failed; all of it is in $(VENV)/install.log" >&2; exit 1; }
	@touch $@

search: $(STAMP)
	$(BIN)/aquasurf search mnist1d --name mnist1d --candidates 400 --evaluations 12 --workers 2 --cpus-per-worker 0.5
	$(BIN)/aquasurf confirm mnist1d --top 2 --learning-rates 0.5,1,2 --rate-seeds 1 --judged-baselines 2

# One thread a process: two processes with two threads each get in each other's way on two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

test: $(STAMP)
	$(PYTEST) --dist loadfile --no-loadscope-reorder --durations=25 \
		-m "not slow and not faults and not deploy and not docs"

FAULTS := build/faults.jsonl
FAULT_TESTS :=

test-faults: $(STAMP)
	@rm -f $(FAULTS)
	@AQUASURF_FAULTS=$(CURDIR)/$(FAULTS) $(PYTEST) --dist loadscope -m "slow or faults or reliability" $(FAULT_TESTS); code=$$?; \
		$(BIN)/python tests/faults/reliability.py $(FAULTS) --print; exit $$code

reliability: $(STAMP)
	$(BIN)/python tests/faults/reliability.py $(FAULTS)

CLUSTER_STAMP := $(VENV)/.installed-cluster

$(CLUSTER_STAMP): $(STAMP)
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,cluster]'
	@touch $@

test-deploy: $(CLUSTER_STAMP)
	$(BIN)/python -m pytest -m deploy tests/deploy

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(STAMP)
	$(BIN)/python .ci/audit

evidence: $(STAMP)
	$(BIN)/python benchmarks/evidence/recompute.py docs/evidence-tables.md
	$(BIN)/python benchmarks/evidence/recompute.py docs/evidence.md
	$(BIN)/python benchmarks/evidence/recompute.py docs/evidence-transfer.md

.PHONY: test-docs docs

test-docs: $(STAMP)
	$(PYTEST) --dist load -m docs tests/docs

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
