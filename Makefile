# What a person runs on a fresh machine. Needs Python 3.11 or later with venv, and nothing else;
# kept within GNU make 3.81, which is what macOS ships.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test lint bench interop sweeps sweep lock clean

help:
	@echo 'make demo     1,300 virtual devices of three protocols update against the embedded backend'
	@echo 'make test     the test suite'
	@echo 'make lint     ruff, mypy --strict, one-way imports'
	@echo 'make interop  against real peers: Leshan, gooseBit, SWUpdate, mosquitto, nginx and more (installs them)'
	@echo 'make sweeps   the exhaustive tests, and new examples for every property (slow)'
	@echo 'make bench    speed and memory beside their yardsticks, in bench-results/latest.json'

install: $(STAMP)

# Two steps: everything from the lock file by hash, build backend included, then the project
# itself with no resolver and no download.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("fotilla needs Python 3.11 or later, not " + sys.version.split()[0] + "; name one with: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/fotilla demo

# Files are handed out whole, one process a core: what a file shares stays in one of them.
test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m tools.bench

interop: $(STAMP)
	@if [ -f tests/interop/setup.sh ]; then bash tests/interop/setup.sh; fi
	$(BIN)/python -m pytest tests/interop -n auto --dist loadfile

sweep: sweeps

sweeps: $(STAMP)
	$(BIN)/python -m pytest tests/sweeps
	$(BIN)/python -m pytest -n auto --dist loadfile -m hypothesis --hypothesis-profile=explore

# After a change of dependencies; needs uv.
lock:
	uv pip compile pyproject.toml --all-extras --universal --generate-hashes --upgrade \
	  --no-emit-index-url --no-annotate --no-header --output-file requirements.lock

clean:
	rm -rf $(VENV) tests/interop/.peers report bench-results dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
