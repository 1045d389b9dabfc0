# make run        the lecture's experiments on JAX (installs jaxnet without torch)
# make test       the suite, against torch (installs torch too)
# make benchmark  jaxnet beside torch and others (about thirteen minutes)
# make lint       formatting, lint and types
# make docs       the documentation, as pages in site/

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test benchmark lint docs clean

run: .venv/jaxnet
	$(BIN)/jaxnet lecture --figures figures

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses logical --dist loadfile

benchmark: .venv/dev
	$(BIN)/python -m benchmarks

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/dev
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxnet needs Python 3.11 or newer: make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv

.venv/jaxnet: pyproject.toml | .venv/bin/python
	@echo "Installing jaxnet and JAX into .venv (about half a minute) ..."
	@$(PIP) --editable .
	@touch $@

.venv/dev: pyproject.toml | .venv/bin/python
	@echo "Installing jaxnet, JAX, torch and the test tools into .venv (some minutes) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv figures site
