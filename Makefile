# Each target works on a fresh machine that has Python 3.11 with venv, and make: the first one that is asked
# for creates .venv and installs the exact versions of the lock files; later ones find it ready.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
LOWEST := .venv-lowest

# Two processes of one thread each: with more threads they would slow each other. Then the slowest tests are listed.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest --numprocesses 2 --dist loadfile --durations 15

.PHONY: demo test quick test-lowest coverage check bench install format tree clean

demo: $(READY)  ## train, score and use one small model, in under five minutes
	$(BIN)/bitfit demo --overwrite

test: $(READY)  ## every test, offline, on two processors
	$(call PYTEST,$(VENV))

quick: $(READY)  ## the tests that take no more than a second or two each: under a minute together
	$(call PYTEST,$(VENV)) -m "not slow and not real"

test-lowest: $(LOWEST)/.ready  ## every test with the lowest versions that pyproject.toml promises; Python 3.11 or 3.12
	$(call PYTEST,$(LOWEST))

coverage: $(READY)  ## which lines the tests run, and how many: the least covered files first
	$(call PYTEST,$(VENV)) --cov bitfit --cov-report ""
	$(BIN)/python -m coverage report --skip-covered --sort cover

check: $(READY)  ## style, types and the shape of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

bench: $(READY)  ## this engine beside the usual tools; ARGS="--quick --data-dir FOLDER"
	$(BIN)/python -m benchmarks.bench $(ARGS)

install: $(READY)  ## only what the others need

format: $(READY)  ## write the style that check asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tree: $(READY)  ## write CONTRIBUTING's tree from the files' first lines
	$(BIN)/python -m tests.tree

clean:  ## forget the environments
	rm -rf $(VENV) $(LOWEST)

# $(call installed,ENVIRONMENT,LOCK): the lock's versions, the embedded model and data, and this checkout itself.
define installed
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bitfit needs Python 3.11 or newer; say PYTHON=python3.11")'
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-demo.lock
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(1)/.ready
endef

SOURCES := requirements-demo.lock pyproject.toml src/bitfit/__init__.py

$(READY): requirements.lock $(SOURCES)
	$(call installed,$(VENV),$<)

$(LOWEST)/.ready: requirements-lowest.lock $(SOURCES)
	$(call installed,$(LOWEST),$<)
