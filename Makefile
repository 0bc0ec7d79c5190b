# What one types. `make help` lists it. Everything stays inside this folder, apart from the Debian packages that
# `make test` installs where it may (see tools/install-debian.sh).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.stamp-base
TEST := $(VENV)/.stamp-test

# Given on the command line: ARGS for demo and soak, DB=sqlite|postgresql for test, ONLY=id,id for bench.
ARGS ?=
DB ?=
ONLY ?=

.PHONY: help demo test test-kubernetes check bench pictures soak fmt clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

demo: $(if $(findstring ray,$(ARGS)),$(TEST),$(BASE)) ## three computing centres on this machine run and settle real work; ARGS="--exit --json"
	@$(BIN)/yunhe demo $(ARGS)

test: $(TEST) ## everything that is checked; DB=sqlite or DB=postgresql for one database alone
	@tools/run-tests.sh $(DB)

test-kubernetes: $(TEST) ## the Kubernetes driver on a real control plane, built from source once (ten minutes, 3 GB)
	@tools/build-kubernetes.sh
	@$(BIN)/pytest -ra tests/kubernetes $(ARGS)

check: $(TEST) ## style, types and the import law; seconds
	@tools/check.sh

bench: $(TEST) ## measure against the budgets, with peers beside; ONLY=id,id
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(ARGS)

pictures: $(TEST) ## the console's pages as pictures, in docs/pictures
	@YUNHE_PICTURES=docs/pictures $(BIN)/pytest -q tests/console/test_pictures.py

soak: $(TEST) ## fault runs, one after the other, for 20 minutes; ARGS="--minutes 5 --seed 1"
	@$(BIN)/python -m tests.faults.soak $(or $(ARGS),--minutes 20)

fmt: $(TEST) ## rewrite the sources to the project's format
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean: ## remove what the other targets made (not the data in .yunhe/)
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE): requirements.txt pyproject.toml tools/install-python.sh
	@tools/install-python.sh base

$(TEST): requirements-test.txt $(BASE)
	@tools/install-python.sh test
