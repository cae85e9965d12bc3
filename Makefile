# Every target works from a fresh clone with python3 (3.11 or newer), make and a package index.
#   make book        the website, in _build/html            make serve    shows it at http://localhost:8000
#   make check       lint, types, fast tests (3 minutes)    make test     everything (about 40 minutes on 2 cores)
#   make execute     run the notebooks in place             make clean    remove what was built
#   make repository URL=https://github.com/you/fork         change the book's public address everywhere
#   make release VERSION=0.2.0                              number, wheel, offline website (in dist/) and tag

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PORT ?= 8000
NOTEBOOKS ?=
# What a caller states reaches programs through the environment, as it was typed: neither make nor the shell reads it.
export override WORKERS := $(value WORKERS)
export override PORT := $(value PORT)
export override NOTEBOOKS := $(value NOTEBOOKS)
export override URL := $(value URL)
export override VERSION := $(value VERSION)
HTML := _build/html
SITE_SOURCES := _config.yml _toc.yml $(shell find book tools -type f -not -path '*/.*' -not -path '*/__pycache__/*' 2>/dev/null)

# One thread per test worker: two workers on two cores, and sums in the same order everywhere.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MMLEARN_SCALE=smoke MPLBACKEND=agg TOKENIZERS_PARALLELISM=false
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -n "$$WORKERS" --dist loadgroup

.PHONY: help book test check lint execute serve clean repository release
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

# --- installing: once, and again when pyproject.toml changes ----------------------------------------------------------
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-book: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[book]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml tests/oracles.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[book,test]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement tests/oracles.txt
	@touch $@ $(VENV)/.installed-book

# --- the website: outputs are stored in the notebooks, so building executes nothing ----------------------------------
$(HTML)/.built: $(SITE_SOURCES) | $(VENV)/.installed-book
	@rm -f $@
	$(BIN)/jupyter-book build . --all --nitpick --warningiserror --keep-going --quiet
	@test -f $(HTML)/book/intro.html && touch $@

book: $(VENV)/.installed-book $(HTML)/.built
	@echo "The book is built. Open $$PWD/$(HTML)/index.html, or run 'make serve' and open http://localhost:$$PORT"

serve: book
	$(BIN)/python -m http.server "$$PORT" --bind 127.0.0.1 --directory $(HTML)

# --- checks ----------------------------------------------------------------------------------------------------------
lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(PYTEST) -q -m "not slow and not parity and not notebook and not site and not browser"

test: lint $(HTML)/.built
	$(PYTEST)

# --- notebooks: run in place, top to bottom, at the scale of this machine (or MMLEARN_SCALE=smoke|cpu|gpu) -----------
execute: $(VENV)/.installed-book
	$(BIN)/python tools/notebooks.py execute $$NOTEBOOKS
	$(BIN)/python tools/make_appendix.py

repository:
	@test -n "$$URL" || { echo "say which: make repository URL=https://github.com/you/fork" >&2; exit 2; }
	$(PYTHON) tools/notebooks.py repository "$$URL"

# Nothing is committed or tagged before all has been built.
release: $(VENV)/.installed-book
	@test -n "$$VERSION" || { echo "say which: make release VERSION=0.2.0" >&2; exit 2; }
	$(BIN)/python tools/release.py set "$$VERSION"
	$(MAKE) book
	$(BIN)/python tools/release.py pack
	$(BIN)/python tools/release.py tag

clean:
	rm -rf _build build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
