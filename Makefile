# icestream: `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test setup lint types chaos benchmark clean

demo: setup ## set up and run the main job, ending with the path of the report
	@$(BIN)/icestream demo

test: setup lint types ## everything that CI runs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

setup: $(STAMP) ## a working virtual environment with everything in it

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

chaos: setup ## the long version of the kill tests
	$(BIN)/pytest tests/e2e/test_chaos.py --chaos-kills 200

benchmark: setup
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python benchmarks/picking.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
