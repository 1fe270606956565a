# Both commands create the environment they need, in .venv; PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin
CORE = $(patsubst %,tests/test_%.py,determinism distributed random mask pruner selection scores noise noisy_labels rewinder enforcement \
	parameters perceptron metrics phases landscape sparse convert models)

QUICK = $(patsubst %,tests/test_%.py,mask pruner selection scores noise noisy_labels rewinder parameters metrics phases \
	convert random)

.PHONY: demo test test-core test-long test-oldest dist docs clean

demo: .venv/demo  ## sparse double descent on real digits, a minute on two idle cores: see demo/
	$(BIN)/sparsedd demo --out demo

test: .venv/test  ## everything that must hold before a change is merged; the tests build the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n logical --dist worksteal

test-core: .venv/test  ## the core's quick tests, in under a minute
	$(BIN)/pytest -n logical --dist worksteal $(QUICK)

test-long: .venv/test  ## what takes hours: every fault, and five thousand examples of each property
	$(BIN)/pytest -m long
	$(BIN)/pytest -m hypothesis --hypothesis-profile=long

test-oldest: .venv-oldest/test  ## the core, and every draw, with the oldest dependencies that pyproject.toml allows
	.venv-oldest/bin/python -m pytest -W default $(CORE)

dist: .venv/test  ## what is published: dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

docs: .venv/test
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

.venv/demo: pyproject.toml
	@echo "Creating the environment in .venv; torch is several gigabytes, this takes a few minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable '.[demo]'
	touch $@

.venv/test: pyproject.toml
	@echo "Creating the environment in .venv; torch is several gigabytes, this takes a few minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv-oldest/test: pyproject.toml
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	sed -n 's/^\(dependencies\|demo\|vision\|parquet\) = \["\(.*\)"\]/\2/p' pyproject.toml | sed 's/", "/\n/g; s/>=/==/g' > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet -r .venv-oldest/oldest.txt pytest hypothesis tensorboard
	.venv-oldest/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf .venv .venv-oldest demo dist docs/_build docs/_generated docs/examples docs/api/classes docs/api/modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
