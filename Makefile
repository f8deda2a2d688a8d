# `make` alone lists what there is. PYTHON chooses the interpreter, VENV the place of the virtual
# environment, JOBS how many processes run tests: two for each core, and no more than eight.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
JOBS ?= auto
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.demo ## start a demonstration: site, worker and beat on SQLite (ARGS=--exit ends by itself)
	@$(BIN)/python testproject/demo.py $(ARGS)

.PHONY: test
test: $(VENV)/.test ## run the tests, all but the slow ones (ARGS="tests/unit -x"); what needs a server that isn't there is skipped by name
	@$(BIN)/python -m pytest --plan quick -n $(JOBS) $(ARGS)

.PHONY: test-all
test-all: $(VENV)/.test-all ## run every test
	@$(BIN)/python -m pytest --plan all -n $(JOBS) $(ARGS)

.PHONY: durations
durations: $(VENV)/.test-all ## run every test and write down how long each takes: tests/durations.txt
	@$(BIN)/python -m pytest --plan all -n $(JOBS) --write-durations

.PHONY: lint
lint: $(VENV)/.dev ## ruff and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/.dev ## put the code in shape
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: types
types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

.PHONY: docs
docs: $(VENV)/.dev ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -n -W -b html docs docs/_build/html

.PHONY: bench
bench: $(VENV)/.dev ## measure publishing, claiming and running on SQLite (benchmarks/README.md has the rest)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/publish.py $(ARGS)

.PHONY: clean
clean: ## delete what was built and the demonstration's database
	rm -rf docs/_build build dist testproject/output testproject/db.sqlite3*

# One stamp for each set of packages; a changed pyproject.toml installs again.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "django-tasks-engine needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[test]'
	@$(PIP) --editable '.[mysql]' >/dev/null 2>&1 || echo "mysqlclient can't be built here (it needs MariaDB's headers and pkg-config): tests on MariaDB will be skipped"
	@touch $@

$(VENV)/.test-all: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[test-all]'
	@$(PIP) --editable '.[mysql]' >/dev/null 2>&1 || echo "mysqlclient can't be built here (it needs MariaDB's headers and pkg-config): tests on MariaDB will be skipped"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@
