# Each of these works alone on a fresh machine with Python 3.11 or newer: what is missing is installed first.
PORT ?= 8501
BIN := .venv/bin

.PHONY: run test test-all check format bench chaos gallery

run:
	@sh scripts/setup.sh run
	@echo "Reuse Lab: http://localhost:$(PORT)   (Ctrl-C ends the page; training goes on)"
	@$(BIN)/python -m streamlit run app.py --server.port $(PORT)

PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

test:
	@sh scripts/setup.sh test
	@$(PYTEST) -m "not heavy"

# With the heaviest crosses too, of laws that `test` tries on lighter cases.
test-all:
	@sh scripts/setup.sh test
	@$(PYTEST)

# An hour of random commands with random faults on a small store; a seed in which a law breaks is printed.
chaos:
	@sh scripts/setup.sh test
	@$(BIN)/python -m tests.chaos --minutes 60 --operations 40

check:
	@sh scripts/setup.sh check
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format:
	@sh scripts/setup.sh check
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Train the recorded runs that ship with the lab, those that are missing or stale. It can be stopped, and goes on.
gallery:
	@sh scripts/setup.sh run
	@$(BIN)/python -m labcore gallery

# Ratios and waiting times on this machine, as in docs/performance.md; about an hour on two cores.
bench:
	@sh scripts/setup.sh test
	@$(BIN)/python -m benchmarks.engine
	@$(BIN)/python -m benchmarks.pages
	@$(BIN)/python -m benchmarks.estimates
	@$(BIN)/python -m benchmarks.sweep
	@$(BIN)/python -m benchmarks.fisher
	@$(BIN)/python -m benchmarks.springs
	@$(BIN)/python -m benchmarks.growth
	@$(BIN)/python -m benchmarks.stores
	@$(BIN)/python -m benchmarks.spent
	@$(BIN)/python -m benchmarks.story
	@$(BIN)/python -m benchmarks.maps
