# make run: the quickstart; make test: the tests. Either does all set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
LOCK ?= requirements.lock
PY := $(VENV)/bin/python
WORKERS ?= 2
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist loadfile

.PHONY: run setup lint test test-slow soak

run: setup
	$(PY) -m experiments.quickstart

setup: $(VENV)/.installed

# The ranges stand in setup.py; the lock holds the versions that were tested together.
$(VENV)/.installed: setup.py $(LOCK)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint $(LOCK) --editable '.[all,test]'
	touch $@

lint: setup
	$(PY) -m ruff check .

test: setup
	$(PYTEST) -m 'not slow and not soak and not weights'

test-slow: setup
	$(PYTEST) -m slow --junitxml=runs/slow.xml

# Fuzzing is one module: dealt out by file, one process would have all of it.
soak: setup
	$(PYTEST) --dist load -m soak --junitxml=runs/soak.xml
