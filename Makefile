# Needs GNU make and a Python of 3.11 or newer with its venv module; everything else is fetched from the package index.
#
#   make felidae4                          the published experiment, 50 epochs; ends with the path of its run
#   make felidae4 ENGINE=                  the preset as it stands: 64 kept views of each photo instead of 8; a quarter of an hour
#   make felidae4 ARGS='--set stages[0].epochs=3'
#   make test                              the tests, two at a time; ARGS='tests/config -x' for some of them
#   make test-all                          the tests and what is slow by design: hundreds of kills, whole grids of simulations
#   make wheel                             dist/finetunekit-*.whl, to install elsewhere with pip
#   make PYTHON=/opt/python3.12/bin/python3 test

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
ARGS ?=
# Eight kept views of each photo where the preset keeps 64: ten minutes, at a price that docs/performance.md measures.
ENGINE ?= --set cache.views=8
# Processes that test side by side; finished runs are made once for all of them. 0: none but pytest's own.
WORKERS ?= 2
VENV := .venv
# TensorFlow has no released wheels for a newer Python than 3.$(NEWEST). PYTHON=... is taken at its word.
NEWEST := 13
# A folder that was moved or copied is installed anew: the command's first line and the editable install hold its path.
HERE := $(shell pwd | cksum | tr ' ' -)
INSTALLED := $(VENV)/.installed-$(HERE)
INSTALLED_DEV := $(VENV)/.installed-dev-$(HERE)
PIP_INSTALL := { $(VENV)/bin/python -c 'import pip' 2>/dev/null || $(VENV)/bin/python -m ensurepip >/dev/null; } && \
  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install dev wheel felidae4 test test-all lint format types imports docs docs-check site check clean

help:
	@sed -n '3,9s/^#//p' Makefile
	@echo '   make lint format types imports docs docs-check site check clean'

install: $(INSTALLED)
dev: $(INSTALLED_DEV)

felidae4: $(INSTALLED)
	$(VENV)/bin/finetunekit run presets/felidae4.yaml $(ENGINE) $(ARGS)

# What `pip install dist/finetunekit-*.whl` installs anywhere.
wheel: $(VENV)/bin/python
	@$(VENV)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/finetunekit-*.whl

test: $(INSTALLED_DEV)
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

# With what is slow by design: hundreds of kills, whole grids of simulations, every network of the catalogue.
test-all: $(INSTALLED_DEV)
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m 'slow or not slow' $(ARGS)

lint: $(INSTALLED_DEV)
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m ruff format --check .

format: $(INSTALLED_DEV)
	@$(VENV)/bin/python -m ruff check --fix .
	@$(VENV)/bin/python -m ruff format .

types: $(INSTALLED_DEV)
	@$(VENV)/bin/python -m mypy --strict

imports: $(INSTALLED_DEV)
	@$(VENV)/bin/python -c 'from importlinter.cli import lint_imports_command as check; check()'

docs: $(INSTALLED_DEV)
	@$(VENV)/bin/python docs/generate.py

docs-check: $(INSTALLED_DEV)
	@$(VENV)/bin/python docs/generate.py --check

site: $(INSTALLED_DEV)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

check: test lint types imports docs-check

# Runs are results: they are kept.
clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find finetunekit plugins tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@found=''; seen=''; bare=''; \
	fits() { "$$1" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $$2))" 2>/dev/null; }; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
	  command -v "$$candidate" >/dev/null 2>&1 || continue; \
	  seen="$$seen $$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"; \
	  fits "$$candidate" $(if $(PYTHON),999,$(NEWEST)) || continue; \
	  if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then found="$$candidate"; break; fi; \
	  bare="$$candidate"; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "$$bare cannot make a virtual environment: its venv or ensurepip module is missing. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "No Python from 3.11 to 3.$(NEWEST) found (seen:$${seen:- none}). Install one, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$found" --version)" >&2; \
	"$$found" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(INSTALLED): pyproject.toml | $(VENV)/bin/python
	@echo 'installing into $(VENV) (TensorFlow is large; this takes a minute or more)' >&2
	@$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(VENV)/bin/python
	@echo 'installing into $(VENV) for development (TensorFlow is large; this takes a minute or more)' >&2
	@$(PIP_INSTALL) --editable '.[dev]' --editable plugins/inaturalist
	@touch $@ $(INSTALLED)
