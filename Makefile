# Every target builds its own environment first; a machine with make, bash and a supported Python needs nothing else.
# Another interpreter: make test PYTHON=/path/to/python3.12    Another place: make test VENV=/tmp/venv

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

SUPPORTED := (3, 11) <= sys.version_info[:2] <= (3, 13)

# The first Python on the PATH that is neither too old nor too new; python3 is tried first.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.11 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(not ($(SUPPORTED)))' 2>/dev/null && echo "$$p" && break; done; true)
endif
ifeq ($(strip $(PYTHON)),)
PYTHON := python3
endif

VENV ?= .venv
BIN := $(abspath $(VENV))/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMP := $(VENV)/.installed
AGAIN = $(MAKE) --no-print-directory

# What is imported is compiled once and kept, also where the machine's setting is to compile it anew in every process.
unexport PYTHONDONTWRITEBYTECODE

# uv is several times as fast as pip. It reads none of pip's settings: those that say where packages lie are handed on,
# and where that isn't enough, pip installs. Spark comes as source: its 450 MB are packed without squeezing them again.
UV := UV_DEFAULT_INDEX="$${PIP_INDEX_URL:-https://pypi.org/simple}" UV_INDEX="$${PIP_EXTRA_INDEX_URL:-}" \
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" UV_SYSTEM_CERTS=1 UV_HTTP_TIMEOUT=180 $(BIN)/uv pip install --quiet \
	--python $(BIN)/python --index-strategy unsafe-best-match \
	--config-settings-package=pyspark:--build-option=--compression=stored

.PHONY: help install demo test engines docs lint style format typecheck clean

help: ## show this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)$$/  make \1@\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS=@ read -r target what; do printf '%-18s %s\n' "$$target" "$$what"; done

# torch goes in first, by pip and at the pinned version: where pip can see a CPU build of it, that build is taken, and
# nothing later replaces it.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(None if $(SUPPORTED) else "wordelim needs Python 3.11, 3.12 or 3.13, and " \
		"$(PYTHON) is %s: name another with make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv $(VENV)
	@echo "installing into $(VENV) (once; again when pyproject.toml or constraints.txt change)"
	@$(PIP) install --no-compile -c constraints.txt torch uv
	@$(UV) -c constraints.txt -e '.[dev,docs]' || $(PIP) install --no-compile -c constraints.txt -e '.[dev,docs]'
	@touch $@

install: $(STAMP) ## make .venv with wordelim (editable) and every tool in it

demo: $(STAMP) ## run the whole path on a small model, no download; options in ARGS
	@$(BIN)/wordelim demo --force $(ARGS)

engines: export HF_HUB_OFFLINE ?= 1
engines: $(STAMP) ## the tests that start Ray and Spark, which `make test` leaves out
	@$(BIN)/pytest -m engine $(ARGS)

# mypy and the documentation are made beside the tests; what they say comes last.
test: export HF_HUB_OFFLINE ?= 1
test: style ## ruff, then mypy, docs and every test, offline, on all cores; pytest options in ARGS
	@mkdir -p build
	@$(AGAIN) --keep-going typecheck docs > build/checks.log 2>&1 & checks=$$!; failed=0; \
		$(BIN)/pytest --numprocesses auto --dist worksteal $(ARGS) || failed=$$?; \
		wait $$checks || failed=$$?; cat build/checks.log; exit $$failed

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(STAMP) ## build the documentation in build/site; a broken link is an error
	$(BIN)/python -m mkdocs build --strict --quiet

style: $(STAMP) ## ruff check, ruff format --check; changes nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lint: style typecheck ## ruff check, ruff format --check, mypy; changes nothing

format: $(STAMP) ## let ruff sort, fix and format in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# mypy reads files, not import hooks, so it can't see that adapters/ and cli/ install as wordelim.adapters and
# wordelim.cli. .typecheck/ is that layout in symbolic links; in what mypy prints, the real paths are put back.
typecheck: $(STAMP) ## mypy on wordelim, adapters and cli
	@rm -rf .typecheck && mkdir -p .typecheck/wordelim
	@cd .typecheck/wordelim && ln -s ../../wordelim/* . && ln -s ../../adapters ../../cli .
	cd .typecheck && $(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p wordelim \
		| sed -E 's#^wordelim/(adapters|cli)/#\1/#'

clean: ## remove the environment, caches and build output
	rm -rf $(VENV) .typecheck .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
