# `make demo` and `make test` do all of their own set-up; `make setup` is quick when nothing changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.kgkit-setup
UV     := $(VENV)/uv/bin/uv
DIST   ?= dist

.PHONY: setup demo test lint campaign lock dist audit clean

setup: $(STAMP)

# uv lives in an environment of its own inside .venv, installed by hash, so that pip's slow resolver never runs.
$(STAMP): requirements/lock.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kgkit needs Python 3.11 or newer; set PYTHON=python3.11 (or later) and run make again." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || { $(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt; }
	@$(UV) pip sync -q --compile-bytecode --require-hashes --python $(BIN)/python requirements/lock.txt
	@rm -rf kgkit.egg-info build  # what an earlier build left would hide new plugins from `python -m`
	@$(UV) pip install -q --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $(STAMP)

demo: setup
	@$(BIN)/kgkit demo

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/bandit -q -c pyproject.toml -r kgkit plugins connectors benchmarks examples

test: lint
	@$(BIN)/python -m pytest -n 2 --dist worksteal

# What faults do to graphs, at length: one table. `make campaign ARGS="kills --times 3 --seed 7"` does a part of it, longer.
campaign: setup
	@cd tests && ../$(BIN)/python -m campaign $(ARGS)

# Rewrites the pinned, hashed versions after a change of pyproject.toml; runtime.txt: those of them that a user gets.
COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header
lock: setup
	$(COMPILE) --generate-hashes --extra dev --extra server --extra py2neo pyproject.toml requirements/build.in -o requirements/lock.txt
	$(COMPILE) --no-annotate -c requirements/lock.txt pyproject.toml -o requirements/runtime.txt

# The wheel, and beside it what it pulls in: names, versions and package URLs in CycloneDX's JSON.
dist: setup
	@$(BIN)/python -m build --wheel --no-isolation --outdir $(DIST) .
	@$(BIN)/python -W ignore -m cyclonedx_py requirements requirements/runtime.txt --pyproject pyproject.toml --mc-type library \
		--output-reproducible --of JSON -o $(DIST)/kgkit-$$($(BIN)/python -c 'import kgkit; print(kgkit.__version__)').cdx.json

# Known holes of the pinned versions, by PyPI's advisories: needs an index that serves advisories, which mirrors lack.
audit: setup
	@$(UV) tool run pip-audit==2.10.1 --strict --disable-pip --require-hashes -r requirements/lock.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
