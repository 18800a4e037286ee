# Two commands do all the set-up on a fresh machine: `make sweep` and `make test`.
# CONSTRAINTS=constraints.txt installs the versions with which everything was last seen to pass, instead of the newest.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
# Tests that run at once; each takes a core and 2 GB.
WORKERS ?= 2
# COVERAGE=--cov measures the branches that the tests take, and fails below 90 %; it takes half as long again.
COVERAGE ?=
BIN := $(VENV)/bin

.PHONY: sweep test quick lint types tests lowest campaign marathon docs bench clean

sweep: $(VENV)/.installed
	$(BIN)/python -m sweep -m pretrained=true,false freeze_depth=0,2,4

test: lint types tests

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(VENV)/.installed
	$(BIN)/mypy

tests: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) $(COVERAGE)

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not campaign and not marathon"

campaign: $(VENV)/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m campaign

marathon: $(VENV)/.installed
	$(BIN)/python -m pytest -m marathon

# The pages of docs/, into site/; a link that leads nowhere or a command that fails ends it.
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q $(addprefix -c ,$(CONSTRAINTS)) -e .[docs]
	$(BIN)/python -m mkdocs build --strict

# The tests with the oldest version of every dependency that pyproject.toml allows, in an environment of their own.
lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --disable-pip-version-check -q uv
	$(VENV)-lowest/bin/uv pip install -q --compile-bytecode --python $(VENV)-lowest/bin/python --resolution lowest-direct -e .[test]
	$(VENV)-lowest/bin/python -m pytest -n $(WORKERS)

# CIFAR=folder with train/<class>/ and test/<class>/ of the CIFAR-10 images
bench: $(VENV)/.installed
	@test -n "$(CIFAR)" || { echo "error: CIFAR is not set: make bench CIFAR=folder with train/<class>/ and test/<class>/"; exit 2; }
	$(BIN)/python -m benchmarks.cases --root $(CIFAR)
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.main_command
	$(BIN)/python -m benchmarks.table

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "freeze-sweep needs Python 3.11 or newer; set PYTHON=python3.12, for example")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q $(addprefix -c ,$(CONSTRAINTS)) -e .[test]
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist site .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
