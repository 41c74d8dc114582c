# `make run` and `make test` are all the set-up there is: each makes .venv if it is missing or
# older than pyproject.toml or constraints.txt.

PYTHON ?= python3
BIN = .venv/bin
# Windows keeps programs in another directory.
ifeq ($(OS),Windows_NT)
BIN = .venv/Scripts
endif

# The tests start many processes, so what is compiled once is kept, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

# Two test processes a core, because many tests wait for another program; each with one thread,
# because more would wait for each other. A process has neighbouring tests, which share what is
# made for their module. Snapshots of tests that are left out are no fault.
PROCESSES = $(shell $(BIN)/python -c 'import os; print(2 * (os.cpu_count() or 1))')
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal --snapshot-warn-unused
# What `make test` leaves out.
USUAL = -m "not slow and not real and not servers"
# Coverage is printed if all tests run: that of a few says nothing. Before Python 3.12 it takes two
# fifths more time, so there only `make coverage` prints it.
COVERAGE = $(if $(ARGS),,$(shell $(BIN)/python -c 'import sys; print("--cov" * (sys.version_info >= (3, 12)))'))

.PHONY: run test coverage slow real servers fuzz check format clean

run: .venv/.run
	@$(BIN)/gpt-tui $(ARGS)

test: .venv/.dev
	COVERAGE_CORE=sysmon $(PYTEST) $(USUAL) $(COVERAGE) $(ARGS)

coverage: .venv/.dev
	$(PYTEST) $(USUAL) --cov

# The tests that take long: compilers, whole sessions, fuzzers. `make test` leaves them out.
slow: .venv/.dev
	$(PYTEST) -m slow $(ARGS)

# SmolLM2-135M-Instruct (98 MB, fetched once into the user's cache), compared with transformers.
real: .venv/.dev
	$(BIN)/python -m tests.real.weights
	$(BIN)/python -m pytest -m real $(or $(ARGS),tests/real)

# The same questions to a real vLLM on this machine's CPU: 2 GB, fetched once into the user's cache.
servers: .venv/.dev
	$(BIN)/python -m tests.servers.vllm_environment
	$(BIN)/python -m pytest -m servers $(or $(ARGS),tests/servers)

# Ten minutes instead of seconds for each fuzzer; more than 50,000 keys in the storm.
fuzz: .venv/.dev
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/python -m pytest tests/fuzz $(ARGS)

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
