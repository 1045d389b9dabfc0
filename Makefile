# make run               the lecture's experiments on JAX (installs jaxnet without torch)
# make test              what every change must pass, against torch (installs torch too)
# make test-integration  processes, package, notebooks, documentation, benchmarks, browser
# make test-parity       losses, optimizers, lecture and certificates, compiled as users compile them
# make test-slow         every planted fault, drawn mutants, kills, soak, whole certificates
# make test-all          the three
# make benchmark         jaxnet beside torch and others (twenty minutes), into benchmarks.json
# make lint              formatting, lint and types
# make docs              the documentation, as pages in site/

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Workers find what the first has compiled to bytecode, whatever the environment says of writing it.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/python -m pytest --numprocesses logical
# Annotations checked at each call: a fifth of the default tier's time, so not there.
TYPED := --jaxtyping-packages=jaxnet,beartype.beartype

# With XLA's optimizations, which the other tiers leave out (conftest.py); and as an x86 processor
# without AVX-512 computes, whatever this one has: XLA's kernels, and torch's three kinds.
AVX2 := XLA_FLAGS=--xla_cpu_max_isa=AVX2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
	MKL_ENABLE_INSTRUCTIONS=AVX2

.PHONY: run test test-integration test-parity test-slow test-all benchmark lint docs clean

run: .venv/jaxnet
	$(BIN)/jaxnet lecture --figures figures

test: .venv/test
	$(PYTEST)

test-integration: .venv/dev test-parity
	$(PYTEST) tests/integration

test-parity: .venv/test
	$(AVX2) $(PYTEST) $(TYPED) tests/parity tests/test_lecture.py tests/test_certificate.py \
		tests/test_train.py tests/test_nn.py tests/test_losses*.py tests/test_layers*.py \
		tests/test_optim.py tests/test_random.py

# Ten times as many examples are drawn where a default test draws some.
test-slow: .venv/dev
	XLA_FLAGS= JAXNET_EXAMPLES=10 $(PYTEST) $(TYPED) tests/slow tests/test_batches.py tests/test_layers_*.py \
		tests/test_losses*.py tests/test_philox.py tests/test_random.py tests/test_schedules.py

test-all: test test-integration test-slow

benchmark: .venv/dev
	$(BIN)/python -m benchmarks --json benchmarks.json

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

.venv/test: pyproject.toml | .venv/bin/python
	@echo "Installing jaxnet, JAX, torch and pytest into .venv (some minutes) ..."
	@$(PIP) --editable '.[test]'
	@touch $@

.venv/dev: pyproject.toml | .venv/bin/python
	@echo "Installing what benchmarks, documentation, notebooks and lint need too ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/test

clean:
	rm -rf .venv .cache figures site
