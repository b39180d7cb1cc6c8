# Two commands set everything up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
# installed first: a bare range may bring the registry's newest build with gigabytes of CUDA
TORCH ?= torch==2.14.1 torchvision==0.29.1
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-all lint docs clean

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

run: $(BIN)/.installed  ## the default study
	$(BIN)/mqbench run

lint: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## style, types, and the tests that take minutes at most
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -n 2

docs: $(BIN)/.installed  ## the site, in docs/_build/html/index.html; it executes the notebooks
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/sphinx-build -q -W docs docs/_build/html

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference .mypy_cache .ruff_cache .hypothesis
