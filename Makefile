# The front door. `make run` shows it working, `make test` proves it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT := $(VENV)/.built
TOOLS := $(VENV)/.tools
SERVERS := $(VENV)/servers

# Exact versions of every package. `make test LOCK=` takes the newest that pyproject.toml allows.
LOCK := .ci/lock
PINNED := $(if $(LOCK),--constraint $(LOCK).txt --build-constraint $(LOCK).txt)
PINNED_SERVERS := $(if $(LOCK),--constraint $(LOCK)-servers.txt)

.PHONY: help run test unit check test-c fuzz lint format docs bench lock clean

help:
	@echo 'make run     build into $(VENV) and start the demo (Ctrl-C ends it)'
	@echo 'make test    everything: lint, types, C tests with sanitizers, Python and integration tests'
	@echo 'make check   lint, types and all tests but the slow ones'
	@echo 'make unit    the quick tests of single packages, for the inner loop'
	@echo 'make fuzz    read random messages for FUZZ_SECONDS=60'
	@echo 'make docs    write the generated parts of docs/ anew'
	@echo 'make bench   compare with HAProxy and plot'
	@echo 'make lock    write the newest versions of all packages to $(LOCK)*.txt'
	@echo 'make clean   remove what was built'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade $(if $(LOCK),--constraint $(LOCK).txt) pip

$(BUILT): $(BIN)/python $(wildcard $(LOCK).txt) pyproject.toml setup.py $(wildcard src_c/*.h src_c/*/*.[ch]) $(wildcard l4lb/engine/*.p[xy]*)
	@echo 'building l4lb into $(VENV)'
	$(BIN)/python -m pip install --quiet $(PINNED) --editable .
	@touch $@

# What only developers need.
$(TOOLS): $(BUILT) pyproject.toml
	@echo 'installing what the tests need into $(VENV)'
	$(BIN)/python -m pip install --quiet $(PINNED) --editable '.[dev]'
	@touch $@

# Servers that tests put behind l4lb. Without them, those tests are skipped.
$(SERVERS)/.installed: tests/applications/requirements.txt $(wildcard $(LOCK)-servers.txt) | $(BIN)/python
	@echo 'installing servers for the tests into $(SERVERS)'
	$(BIN)/python -m venv $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --upgrade $(PINNED_SERVERS) pip
	$(SERVERS)/bin/python -m pip install --quiet $(PINNED_SERVERS) --requirement $<
	@touch $@

# Tests of single packages. They share no port, file or process, so they run side by side; all others run one by one.
UNIT := $(addprefix tests/,admin agent balancer base bench bounded cli config discovery docs geo handover health load net \
	observe presets sockets state terminal test_maglev.py test_tree.py)

run: $(BUILT)
	$(BIN)/l4lb demo

test: $(TOOLS) $(SERVERS)/.installed lint test-c
	$(MAKE) -C tests/c fuzz FUZZ_RUNS=100000
	$(BIN)/python -m pytest -n 2 $(UNIT)
	$(BIN)/python -m pytest $(UNIT:%=--ignore=%)

unit: $(TOOLS)
	$(BIN)/python -m pytest -q -n 2 -m 'not slow' --hypothesis-profile=dev $(UNIT)

check: $(TOOLS) lint
	$(BIN)/python -m pytest -n 2 -m 'not slow' $(UNIT)
	$(BIN)/python -m pytest -m 'not slow' $(UNIT:%=--ignore=%)

test-c:
	$(MAKE) -C tests/c check SANITIZE=address,undefined
	$(MAKE) -C tests/c check SANITIZE=thread

fuzz:
	$(MAKE) -C tests/c fuzz

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'src_c/*.[ch]' 'tests/c/*.[ch]')

format: $(TOOLS)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(git ls-files 'src_c/*.[ch]' 'tests/c/*.[ch]')

docs: $(TOOLS)
	$(BIN)/python -m docs.generate

bench: $(TOOLS)
	$(BIN)/python -m bench compare

lock:
	rm -rf $(VENV)
	$(MAKE) LOCK= $(TOOLS) $(SERVERS)/.installed
	echo '# Exact versions of what `make test` installs. `make lock` writes them anew.' >$(LOCK).txt
	$(BIN)/python -m pip freeze --all --exclude-editable | sort -f >>$(LOCK).txt
	echo '# Exact versions of the servers that tests put behind l4lb. `make lock` writes them anew.' >$(LOCK)-servers.txt
	$(SERVERS)/bin/python -m pip freeze --all | sort -f >>$(LOCK)-servers.txt

clean:
	rm -rf build $(VENV) l4lb/engine/_native.c l4lb/engine/*.so *.egg-info
