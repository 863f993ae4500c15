# The two commands of a fresh clone are `make demo` and `make test`; `make help` lists the others.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.PHONY: help demo test test-systemd lint format docs bench bench-receiver fuzz clean debian-packages

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.base ## show the whole way on sample traffic: SQLite, no compiler, no root
	@$(BIN)/tollbook demo

test: $(VENV)/.full ## all checks and all tests, on SQLite and MariaDB
	@lint=0; $(MAKE) lint || lint=1; \
	if [ $$lint = 1 ]; then echo "make test: a check above failed; the tests run all the same, the result is a failure"; fi; \
	$(BIN)/pytest && exit $$lint

lint: $(VENV)/.full ## format, lint, types and import contracts
	@status=0; \
	for check in "ruff format --check ." "ruff check ." "mypy --strict accounting cdr reports tollbook.py" "lint-imports --no-logo"; do \
		echo "$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

format: $(VENV)/.full ## format the code and mend what ruff can mend
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

docs: $(VENV)/.full ## write the generated reference pages again
	@$(BIN)/python -m tools.gen_docs

bench: $(VENV)/.full ## run every benchmark of tests/benchmarks
	@set -e; for file in tests/benchmarks/bench_*.py; do \
		[ -e "$$file" ] || { echo "no benchmarks yet"; exit 0; }; \
		echo "== $$file"; $(BIN)/python -m tests.benchmarks.$$(basename "$$file" .py); \
	done

bench-receiver: $(VENV)/.full ## the receiver beside FreeRADIUS and two other peers, in one run
	@$(BIN)/python -m tests.benchmarks.bench_receiver

fuzz: $(VENV)/.full ## fuzz all that reads octets from outside, SECONDS=60 each, one target with TARGET=capture
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[mysql,dev,fuzz]"
	@for target in $(or $(TARGET),$$($(BIN)/python -m tests.fuzz)); do \
		echo "== $$target"; nice $(BIN)/python -m tests.fuzz $$target $(or $(SECONDS),60) || exit 1; \
	done

test-systemd: $(VENV)/.full ## the unit under a real systemd, in namespaces of its own; as root
	@$(BIN)/pytest tests/acceptance/systemd_unit.py

clean: ## remove .venv and all that tools have left behind
	@rm -rf $(VENV) build dist *.egg-info demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.benchmarks .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

debian-packages:
	@PYTHON="$(PYTHON)" tools/debian-packages test

$(VENV)/.base: pyproject.toml tools/venv
	@PYTHON="$(PYTHON)" tools/debian-packages demo
	@PYTHON="$(PYTHON)" tools/venv $(VENV) .
	@touch $@

$(VENV)/.full: pyproject.toml tools/venv | debian-packages
	@PYTHON="$(PYTHON)" tools/venv $(VENV) ".[mysql,dev]"
	@touch $(VENV)/.base $@
