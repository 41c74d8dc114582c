# `make run` and `make test` are all the set-up there is: each makes .venv where it is missing
# or older than pyproject.toml or constraints.txt, and does nothing where it is not.

PYTHON ?= python3
BIN = .venv/bin
# Windows keeps them elsewhere.
ifeq ($(OS),Windows_NT)
BIN = .venv/Scripts
endif

.PHONY: run test fuzz check format clean

run: .venv/.run
	@$(BIN)/gpt-tui $(ARGS)

test: .venv/.dev
	$(BIN)/python -m pytest -n auto $(ARGS)

# Minutes instead of seconds for each fuzzer; FUZZ_SECONDS says how many.
fuzz: .venv/.dev
	FUZZ_SECONDS=$${FUZZ_SECONDS:-180} $(BIN)/python -m pytest tests/fuzz $(ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gpt-tui needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.made pyproject.toml constraints.txt
	@echo "installing gpt-tui into .venv (once; PyTorch is a large download)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/.made pyproject.toml constraints.txt
	@echo "installing gpt-tui and its tests' tools into .venv (once; PyTorch is a large download)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[dev]'
	@touch $@ .venv/.run

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
