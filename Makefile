# `make help` lists the targets. Everything installs into .venv from the locked, hashed versions.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
PYTHONS ?= python3 python3.13 python3.12 python3.11 python3.14
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-input
UV ?= uv
LOCK := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--upgrade --generate-hashes --no-header --no-emit-index-url

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

.PHONY: help demo test accept bench lint clean lock

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10

demo: $(VENV)/.run ## Compare training plans on a simulated phone (installs itself first)
	@$(VENV)/bin/mandheling demo

test: lint ## Check style, types and floors, then run the tests
	@$(PY) -m pytest -n 2

accept: $(VENV)/.dev ## Run the large counts; writes results/accept.json
	@$(PY) -m pytest -n 2 -m accept --figures results/accept-tests.json
	@$(PY) -m experiments.accept

bench: $(VENV)/.run ## Measure engines, INT8 products and training steps; writes results/bench.json
	@$(PY) -m experiments.bench

lint: $(VENV)/.dev ## Check style, types and floors
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: ## Choose new versions for both locks (needs uv)
	$(LOCK) --group build --output-file requirements.lock
	$(LOCK) --group build --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock

# Stamps: the environment, what running needs, what testing needs.

$(VENV)/.python:
	@chosen=; for python in $(PYTHONS); do \
		if $$python -c '$(SUPPORTED)' 2>/dev/null; then chosen=$$python; break; fi; \
	done; \
	if [ -z "$$chosen" ]; then \
		echo "error: no Python 3.11 to 3.14 found (looked for $(PYTHONS);" \
			"python3 is $$(python3 --version 2>&1 || true))." >&2; \
		echo "Install one, e.g.: apt-get install python3.11 python3.11-venv," \
			"or name yours: make demo PYTHONS=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $$chosen -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "error: $$chosen cannot make virtual environments (venv or ensurepip is missing)." >&2; \
		version=$$($$chosen -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "Install it, e.g.: apt-get install python3-venv" \
			"(or python$$version-venv)" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$($$chosen --version)"; \
	rm -rf $(VENV); $$chosen -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements.lock pyproject.toml
	@echo "Installing what running needs (requirements.lock)"
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing what testing needs (requirements-dev.lock)"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@
