# Each target works on a fresh machine that has Python 3.11 with venv, and make: the first one that is asked
# for creates .venv and installs the exact versions of the lock files; later ones find it ready.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Two processes of one thread each: with more threads they would slow each other. Then the slowest tests are listed.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 15

.PHONY: demo test quick check bench install format tree clean

demo: $(READY)  ## train, score and use one small model, in under five minutes
	$(BIN)/bitfit demo --overwrite

test: $(READY)  ## every test, offline, on two processors
	$(PYTEST)

quick: $(READY)  ## the tests that take no more than a second or two each: under a minute together
	$(PYTEST) -m "not slow and not real"

check: $(READY)  ## style, types and the shape of the house
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

clean:  ## forget the environment
	rm -rf $(VENV)

$(READY): requirements.lock requirements-demo.lock pyproject.toml src/bitfit/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bitfit needs Python 3.11 or newer; say PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-demo.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
