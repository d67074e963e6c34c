# `make demo` and `make test` do all of their own set-up; `make setup` is quick when nothing changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.kgkit-setup
UV     := $(VENV)/uv/bin/uv

.PHONY: setup demo test lint campaign lock clean

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

test: lint
	@$(BIN)/python -m pytest -n 2 --dist worksteal

# What faults do to graphs, at length: one table. `make campaign ARGS="kills --times 3 --seed 7"` does a part of it, longer.
campaign: setup
	@cd tests && ../$(BIN)/python -m campaign $(ARGS)

# Rewrites the pinned, hashed versions after a change of pyproject.toml.
lock: setup
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev --extra server --extra py2neo pyproject.toml requirements/build.in -o requirements/lock.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
