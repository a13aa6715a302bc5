# The front door. `make run` shows it working, `make test` proves it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(VENV)/.built

.PHONY: help run test check test-c lint format bench clean

help:
	@echo 'make run     build into $(VENV) and start the demo (Ctrl-C ends it)'
	@echo 'make test    everything: lint, types, C tests with sanitizers, Python and integration tests'
	@echo 'make check   the quick part of the tests'
	@echo 'make bench   compare with HAProxy and plot'
	@echo 'make clean   remove what was built'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(NATIVE): $(BIN)/python pyproject.toml setup.py $(wildcard src_c/*.[ch]) $(wildcard l4lb/engine/*.p[xy]*)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

run: $(NATIVE)
	$(BIN)/l4lb demo

test: $(NATIVE) lint test-c
	$(BIN)/python -m pytest

check: $(NATIVE) lint
	$(BIN)/python -m pytest -m 'not slow'

test-c: $(BIN)/python
	$(MAKE) -C tests/c check SANITIZE=address,undefined
	$(MAKE) -C tests/c check SANITIZE=thread

lint: $(NATIVE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror src_c/*.[ch] tests/c/*.[ch]

format: $(NATIVE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i src_c/*.[ch] tests/c/*.[ch]

bench: $(NATIVE)
	$(BIN)/python bench/run.py

clean:
	rm -rf build $(VENV) l4lb/engine/_native.c l4lb/engine/*.so *.egg-info
