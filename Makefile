# Both commands create the environment they need, in .venv; PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs clean

demo: .venv/demo  ## sparse double descent on real digits, in about a minute: see demo/
	$(BIN)/sparsedd demo --out demo

test: .venv/test  ## everything that must hold before a change is merged
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

docs: .venv/test
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

.venv/demo: pyproject.toml
	@echo "Creating the environment in .venv; torch is several gigabytes, this takes a few minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/test: pyproject.toml
	@echo "Creating the environment in .venv; torch is several gigabytes, this takes a few minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv demo docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
