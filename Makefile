# Every target builds what it needs: an environment in .venv, from pyproject.toml and the pins of constraints.txt.
# uv is used where it is on PATH (`make UV= run` does without it), else the newest Python at hand and pip.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
EXTRAS := wandb,sweep,test,dev
UV := $(shell command -v uv 2>/dev/null)
# Every test computes with one thread, so there is room for one a core; `make test ARGS=-n0` runs them in one process.
PYTEST = $(PYTHON) -m pytest -n auto --dist worksteal
INSTALL = $(if $(UV),$(UV) pip install --python $(PYTHON),$(PYTHON) -m pip install --disable-pip-version-check)

# Peers that tests compare with. The published dependencies of escnn and e2cnn need a Fortran compiler or numpy 1, and the
# planar groups use neither; lightly's losses need none of its training framework: all are installed without them.
ORACLES := escnn==1.0.11 e2cnn==0.2.3 lightly==1.6.0
ORACLE_NEEDS := autograd joblib pymanopt scipy sympy

.DEFAULT_GOAL := help
.PHONY: help run test test-long check format bench oracle audit pins clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  Change anything with ARGS, for example: make run ARGS="dataset=MNIST seed=1"'

run: $(STAMP) ## train on real digits and report (ARGS="key=value ...")
	$(PYTHON) main.py $(ARGS)

test: $(STAMP) ## the fast tests (ARGS="-k name")
	$(PYTEST) $(ARGS)

test-long: $(STAMP) ## the slow tests alone
	$(PYTEST) -m long $(ARGS)

check: $(STAMP) ## format, lint, types and spelling; changes nothing
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(VENV)/bin/codespell

format: $(STAMP) ## let ruff mend what it can
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: $(STAMP) ## speed and memory, into BENCHMARKS.md; under 10 minutes (ARGS="--full", "conv growth --rounds 15")
	$(PYTHON) -m benchmarks --page BENCHMARKS.md $(ARGS)

oracle: $(STAMP) ## add escnn, e2cnn and lightly, so that the tests that compare with them run
	$(INSTALL) --no-deps $(ORACLES)
	$(INSTALL) -c constraints.txt $(ORACLE_NEEDS)
	$(PYTHON) -m tests.oracles

audit: $(STAMP) ## known weaknesses of what is installed (pip-audit with a network, else security_pins.txt)
	$(PYTHON) .ci/audit.py

pins: ## resolve constraints.txt anew (needs uv)
	@[ -n "$(UV)" ] || { echo "make pins needs uv on PATH, which is not there: install uv and try again." >&2; exit 2; }
	@{ grep '^#' constraints.txt; printf '%s\n' $(ORACLE_NEEDS) | $(UV) pip compile pyproject.toml - --all-extras --universal \
		--python-version 3.11 --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade -q; \
	} > constraints.new && mv constraints.new constraints.txt || { rm -f constraints.new; exit 1; }

clean: ## remove the environment and the caches; runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation starts again.
$(STAMP): pyproject.toml constraints.txt
ifneq ($(UV),)
	$(UV) venv --quiet --allow-existing --python '>=3.11' $(VENV)
else
	@if ! $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		found=; usable=; \
		for candidate in python3.13 python3.12 python3.11 python3; do \
			"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
			found=$${found:-$$candidate}; \
			"$$candidate" -c 'import ensurepip, venv' 2>/dev/null && { usable=$$candidate; break; }; \
		done; \
		if [ -z "$$found" ]; then \
			echo "partial_equiv needs Python 3.11 or newer, and PATH has none (python3.13, python3.12, python3.11, python3):" \
				"install one, or uv, and try again." >&2; exit 2; \
		fi; \
		if [ -z "$$usable" ]; then \
			echo "$$found cannot make an environment, for it lacks the module venv or ensurepip: install it" \
				"(Debian, Ubuntu: apt install $$found-venv), or install uv, and try again." >&2; exit 2; \
		fi; \
		echo "Building $(VENV) with $$("$$usable" --version); torch brings about 3 GB, once."; \
		"$$usable" -m venv --clear $(VENV); \
	fi
endif
	$(INSTALL) --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
