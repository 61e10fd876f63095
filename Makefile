# What a person or CI types. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup setup-kubernetes up down doctor test test-fast test-gpu test-faults check format clean
SHELL := /bin/sh
BIN := .venv/bin
REGION ?= local
FAST := not engine and not containers and not e2e

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

setup: ## virtual environment, packages, engine: whatever is missing
	@stacks/aifactory/toolchain/bootstrap.sh

setup-kubernetes: ## the same, and the Kubernetes provider (some ten minutes, once)
	@stacks/aifactory/toolchain/bootstrap.sh --kubernetes

up: setup ## bring up the region REGION (local): ends with its endpoint and a completion
	@$(BIN)/aifactory up $(REGION) --yes
	@printf '\n$$ aifactory ask $(REGION) "Are you there?"\n'
	@$(BIN)/aifactory ask $(REGION) "Are you there?"
	@command -v aifactory >/dev/null || printf '\n`aifactory` is $(BIN)/aifactory here; to type it as it is: source $(BIN)/activate\n'

down: setup ## remove the region REGION (local) and all it made
	@$(BIN)/aifactory destroy $(REGION) --yes

doctor: setup ## what this machine has and lacks
	@$(BIN)/aifactory doctor

# Which tests share a worker: tests/conftest.py.
test: setup ## the whole test suite
	@$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(PYTEST)

test-fast: setup ## tests that need no engine and no containers
	@$(BIN)/python -m pytest -n 2 -m "$(FAST)" $(PYTEST)

test-gpu: setup ## this machine's own GPUs, where it has some
	@$(BIN)/python -m pytest -rs -n 0 tests/gpu $(PYTEST)

test-faults: setup ## every fault of docs/reliability.md, done on purpose; writes the page (half an hour)
	@$(BIN)/python tests/faults/run.py $(FAULTS)

check: setup ## linters, types, import order, fast tests: before each commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" ANSIBLE_CONFIG=playbooks/ansible.cfg ANSIBLE_LIBRARY=$(CURDIR)/playbooks/library \
	  $(BIN)/ansible-lint --offline
	$(BIN)/python -m pytest -n 2 -q -m "$(FAST)" $(PYTEST)

format: setup ## ruff's formatting and safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-%: setup ## the numbers of docs/performance.md: bench-local, bench-plan, bench-hosts, bench-aws
	@$(BIN)/python tests/bench/bench_$*.py $(BENCH)

clean: ## what tools leave in the tree; never a region's state (.aifactory) or the caches
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .ansible
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
