# BotTrader: everything a person types. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-lock
DEV_STAMP := $(VENV)/.made-from-dev-lock
# Where `make up` keeps its data; empty: a folder of the user's (~/.local/share/bottrader on Linux).
DATA ?=
# Recorded prices for the demo and the local stack; empty: a generated market.
PRICES ?=
TESTS ?=
# More options for the command itself, such as make up ARGS="--temporal-port 0 --ui-port 0".
ARGS ?=

export PYTHONPATH := $(CURDIR)
export PYTHONUNBUFFERED := 1

.PHONY: help env dev temporal server demo test up chaos bench check rooms codes lock format clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## make the Python environment in .venv: what trading needs, from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: name a newer one, for example make env PYTHON=python3.12" >&2; exit 2; }
	@echo "[1/3] Python environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "the environment can't be made: is Python's venv module installed (python3-venv)?" >&2; exit 3; }
	@echo "[2/3] $$(grep -c == requirements.lock) packages from requirements.lock (about a minute, once)"
	@$(BIN)/python -m workers.stack.packages requirements.lock
	@echo "[3/3] the bottrader command"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

dev: $(DEV_STAMP) ## the same with the tools of development, from requirements-dev.lock

$(DEV_STAMP): $(STAMP) requirements-dev.lock
	@echo "[+] $$(grep -c == requirements-dev.lock) packages of development from requirements-dev.lock (about a minute, once)"
	@$(BIN)/python -m workers.stack.packages requirements-dev.lock
	@touch $(DEV_STAMP)

# Tests and the demo always run their own server, so the binary is needed whatever TEMPORAL_ADDRESS says.
temporal: env ## find Temporal's server, or download or build it (about 4 minutes, once)
	@env -u TEMPORAL_ADDRESS $(BIN)/python -m workers.stack.temporal_binary > /dev/null

server: env ## build Temporal's production server, which live runs on (about 3 minutes, once)
	@$(BIN)/python -m workers.stack.server_binaries

demo: env temporal ## trade on the paper exchange and show what happened; PRICES=file.csv.gz for real prices
	@$(BIN)/bottrader demo $(if $(PRICES),--prices "$(PRICES)") $(ARGS)

# A file's tests stay together, in a process that has servers of its own; the files are shared among one process a core.
test: dev temporal ## run the whole test suite; TESTS=path for a part, ARGS=-n0 for one process
	@$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(TESTS) $(ARGS)

up: env temporal ## run the local stack until Ctrl-C; DATA=folder for its data
	@exec $(BIN)/bottrader up $(if $(DATA),--data "$(DATA)") $(if $(PRICES),--prices "$(PRICES)") $(ARGS)

# CUT=1 has a power cut in every seed (as root); SEED=n runs one seed alone; DATA=folder keeps the data of failing seeds there.
chaos: dev temporal ## trade while everything fails, then audit; SEEDS=20 TRADES=50 (a seed), SEED=n alone
	@$(BIN)/python -m tests.chaos --trades $(or $(TRADES),50) $(if $(DATA),--data "$(DATA)") \
		$(if $(CUT),--cut) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),20)) $(ARGS)

bench: dev temporal ## measure, each number beside its floor
	@$(BIN)/python -m bench $(ARGS)

check: dev ## lint, types (the page's, too, where npm is), import rules
	@echo "[1/5] ruff check" && $(BIN)/ruff check --quiet .
	@echo "[2/5] ruff format" && $(BIN)/ruff format --quiet --check .
# Without its cache: with one, mypy has accepted what it refuses on a fresh clone.
	@echo "[3/5] mypy" && $(BIN)/mypy --cache-dir=/dev/null --no-error-summary .
	@echo "[4/5] import rules" && $(BIN)/lint-imports --no-logo > .import_linter_report 2>&1 \
		|| { cat .import_linter_report; rm -f .import_linter_report; exit 1; }
	@rm -f .import_linter_report
	@echo "[5/5] types of the page" && $(BIN)/python -m tests.support.page_types

rooms: dev ## count the rooms of ARCHITECTURE.md, and renew its table
	@$(BIN)/python -m tests.support.rooms && $(BIN)/python -m tests.support.rooms --write

codes: dev ## renew the table of codes in docs/errors.md
	@$(BIN)/python -m tests.support.codes

lock: dev ## write both lock files from what is installed in .venv
	@$(BIN)/python -m tests.support.locks

format: dev ## format the code and fix what can be fixed safely
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

clean: ## remove the environment and every cache of this folder (not the user's data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
