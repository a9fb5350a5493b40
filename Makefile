# make demo  — fresh machine to an audited data set
# make test  — what CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install chromium demo lint test test-all bench docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## .venv with everything pinned in requirements.lock, and assay itself (editable)

$(STAMP): requirements.lock requirements-alone.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-alone.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

chromium:  ## the browser that the tests of the review page drive
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || test -n "$$CHROMIUM" || \
	{ test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	{ echo "the browser tests need Chromium: apt-get install chromium (or set CHROMIUM to where it is)" >&2; exit 1; }

demo: install  ## audit the digits with 5 % planted label errors; writes audit-digits/ and its report.html
	$(BIN)/assay demo digits

lint: install  ## ruff and pyright (strict on src/)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

test: lint chromium  ## lint and the tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: lint chromium  ## lint and every test, slow ones included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ''

bench: install  ## the benchmarks; they write benchmarks/RESULTS.md
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

docs: install  ## the documentation into site/, strictly
	$(BIN)/mkdocs build --strict

clean:  ## what builds and tests leave behind; .venv and audits stay
	rm -rf site dist build .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -exec rm -rf {} +
