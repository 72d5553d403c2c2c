# Development tasks. `make help` lists them; every task first brings .venv up to date.

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(STAMP) ## start a network from generated weights of the embedded digits
	@echo "demo: hyperinit demo"
	@$(BIN)/hyperinit demo

.PHONY: test
test: $(STAMP) ## fast tests and doctests: CPU, no network
	@echo "test: fast tests and doctests"
	@$(BIN)/python -m pytest -q

.PHONY: test-slow
test-slow: $(STAMP) ## the slow tests only
	@echo "test-slow: slow tests"
	@$(BIN)/python -m pytest -q -m "slow and not network and not gpu"

.PHONY: bench
bench: $(STAMP) ## speed against peers and floors; one row: ROW=name
	@echo "bench: python -m benchmarks speed $(ROW:%=--row %)"
	@$(BIN)/python -m benchmarks speed $(ROW:%=--row %)

.PHONY: check
check: $(STAMP) ## formatting, lint, types
	@echo "check: ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "check: ruff check"
	@$(BIN)/ruff check .
	@echo "check: mypy --strict"
	@$(BIN)/mypy --strict

.PHONY: format
format: $(STAMP) ## rewrite the code: formatting, order of imports, safe fixes
	@echo "format: ruff format, ruff check --fix"
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## remove .venv, caches and builds; runs/ stays
	@echo "clean: .venv, caches, builds"
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 not found. Name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "setup: $(PYTHON) -m venv .venv"; $(PYTHON) -m venv .venv; }
	@echo "setup: pip install -c constraints.txt -e .[train,dev] (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@
