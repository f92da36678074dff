# make demo: set up and reconstruct a sample photo.  make test: set up and run the tests.
# Needs make and Python 3.11 or newer with pip; everything else goes into .venv.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
VENV := .venv
BIN := $(VENV)/bin
# `pip --python` also serves an environment made without pip (Debian without python3-venv).
PIP := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)
SAMPLE := src/lifemask/assets/samples/portrait_1.jpg
DEMO := demo-output/portrait_1.glb
SHIPPED := $(shell find src/lifemask -name '*.py' -o -name '*.safetensors')
WORKERS ?= 2

.PHONY: demo test check format lint types docs setup setup-dev clean

demo: $(DEMO)
	@echo "Open demo-output/portrait_1_preview.png to look, demo-output/portrait_1.glb in Blender or any glTF viewer."

test: setup-dev
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)

check: format lint types docs

format: setup-dev
	@$(BIN)/ruff format --check --output-format concise .

lint: setup-dev
	@$(BIN)/ruff check --output-format concise .

types: setup-dev
	@$(BIN)/pyright

docs: setup-dev
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Made anew when the program or its data changed.
$(DEMO): $(SAMPLE) $(SHIPPED) $(VENV)/.lifemask-run
	@$(BIN)/lifemask reconstruct $(SAMPLE) --output $(@D)

setup: $(VENV)/.lifemask-run
setup-dev: $(VENV)/.lifemask-dev

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with pip is needed; set PYTHON=/path/to/python3.11." >&2; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.lifemask-torch: constraints.txt | $(BIN)/python
	$(PIP) install --quiet $(TORCH)
	@touch $@

$(VENV)/.lifemask-run: pyproject.toml constraints.txt $(VENV)/.lifemask-torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[heif,onnx]'
	@touch $@

$(VENV)/.lifemask-dev: pyproject.toml constraints.txt $(VENV)/.lifemask-torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.lifemask-run

clean:
	rm -rf demo-output docs/_build build dist .pytest_cache .ruff_cache .hypothesis
