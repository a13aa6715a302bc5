# The front door. `make run` shows it working, `make test` proves it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT := $(VENV)/.built
TOOLS := $(VENV)/.tools
SERVERS := $(VENV)/servers

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

$(BUILT): $(BIN)/python pyproject.toml setup.py $(wildcard src_c/*.[ch]) $(wildcard l4lb/engine/*.p[xy]*)
	@echo 'building l4lb into $(VENV)'
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# What only developers need.
$(TOOLS): $(BUILT) pyproject.toml
	@echo 'installing what the tests need into $(VENV)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Servers that tests put behind l4lb. Without them, those tests are skipped.
$(SERVERS)/.installed: tests/applications/requirements.txt | $(BIN)/python
	@echo 'installing servers for the tests into $(SERVERS)'
	$(BIN)/python -m venv $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --requirement $<
	@touch $@

run: $(BUILT)
	$(BIN)/l4lb demo

test: $(TOOLS) $(SERVERS)/.installed lint test-c
	$(BIN)/python -m pytest

check: $(TOOLS) lint
	$(BIN)/python -m pytest -m 'not slow'

test-c:
	$(MAKE) -C tests/c check SANITIZE=address,undefined
	$(MAKE) -C tests/c check SANITIZE=thread

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror src_c/*.[ch] tests/c/*.[ch]

format: $(TOOLS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i src_c/*.[ch] tests/c/*.[ch]

bench: $(TOOLS)
	$(BIN)/python bench/run.py

clean:
	rm -rf build $(VENV) l4lb/engine/_native.c l4lb/engine/*.so *.egg-info
