# Needs only make and Python 3.11 or later; everything else sets itself up in .venv.
#
#   PYTHON=python3.12   this Python instead of the newest that works
#   DJANGO=5.2          this series of Django instead of the newest
#   DB=postgres         the demo's database (sqlite)
#   QUEUE=celery, rq    the demo with that library on Redis, made right by the relay
#   TIER=full, quick    more of the tests, or fewer; see tests/tiers.py
#   BASE=main           what has changed since then decides what is run beside the tier
#   DATABASES, REQUIRE  for the tests: which to use, which not to miss (sqlite,postgres,mariadb,mysql)
#   ARGS="-k claim"     more words for pytest
#   LOCKED=1            install what requirements/ says, checked by hashes, and nothing newer
#   ROUNDS, SCALE, PEERS, WORKLOADS, ON, WRITE=1   for bench; see benchmarks/README.md

VENV ?= .venv$(DJANGO:%=-django%)
PY := $(VENV)/bin/python
DJANGO_LOCKED := $(or $(DJANGO),6.1)
DB ?= sqlite
QUEUE ?= aftercommit
BENCH := .venv-bench/bin/python
TESTS = $(PY) tests/run.py $(TIER:%=--tier=%) $(BASE:%=--base=%) $(DATABASES:%=--databases=%) \
    $(REQUIRE:%=--require=%)

.NOTPARALLEL:
.PHONY: help demo demo-check test test-full check lint types contracts coverage wheel bench scoreboard screenshots model format docs lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## Run the demo site (DB=postgres: on PostgreSQL)
	DB=$(DB) QUEUE=$(QUEUE) $(PY) demo/run.py

demo-check: $(VENV)/demo.stamp  ## Run the demo's main job once and check what it did
	DB=$(DB) QUEUE=$(QUEUE) $(PY) demo/check.py

test: $(VENV)/test.stamp  ## Run the tests that each change must pass, on every database that is there
	$(TESTS) $(ARGS)

test-full: TIER = full
test-full: test  ## Run all tests on every database that is there: before a release

check: lint types contracts docs coverage wheel  ## Run all that CI runs

lint: $(VENV)/dev.stamp  ## Look for mistakes and untidy lines
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

format: $(VENV)/dev.stamp  ## Tidy the lines
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

types: $(VENV)/dev.stamp $(VENV)/test.stamp  ## Check the types
	$(PY) -m mypy

contracts: $(VENV)/dev.stamp  ## Check that imports run one way
	$(VENV)/bin/lint-imports

docs: $(VENV)/docs.stamp  ## Build the site of the documentation in build/docs; a warning is an error
	$(PY) -m sphinx --quiet --fail-on-warning --keep-going --doctree-dir build/docs/read docs build/docs/html

# Python's own monitoring (3.12) measures lines at no cost; branches take two thirds more CPU.
ifneq ($(TIER),full)
coverage: export COVERAGE_CORE = sysmon
coverage: export COVERAGE_BRANCH = false
endif
coverage: $(VENV)/test.stamp  ## Run the tests and see that they reach enough of the code
	$(PY) -m coverage erase
	$(TESTS) --coverage $(ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

wheel: $(VENV)/dev.stamp  ## Build the package and use it in an empty environment
	tools/check_wheel.sh $(PY)

screenshots: $(VENV)/test.stamp  ## Take the pictures of the dashboard for the documentation (needs chromium)
	PYTHONPATH=.:src $(PY) tools/screenshots.py $(ARGS)

model:  ## Check the model of the state machine and its mutants (needs spin and a C compiler)
	tests/model/check.sh $(ARGS)

bench: .venv-bench/stamp  ## Measure this beside other queues
	$(BENCH) -m benchmarks.run $(ROUNDS:%=--rounds=%) $(SCALE:%=--scale=%) $(PEERS:%=--peers=%) \
	    $(WORKLOADS:%=--workloads=%) $(ON:%=--database=%) $(WRITE:%=--write)

$(VENV)/scoreboard.stamp: $(VENV)/test.stamp scoreboard/requirements.txt
	$(PY) -m pip install --quiet -r scoreboard/requirements.txt
	@touch $@

scoreboard: $(VENV)/scoreboard.stamp  ## Count the race with other queues, and with the relay (DB=postgres: on PostgreSQL)
	AFTERCOMMIT_DB=$(DB) $(PY) -m scoreboard.run $(ARGS)

.venv-bench/stamp: benchmarks/requirements.txt pyproject.toml
	$${PYTHON:-$$(tools/find_python.sh)} -m venv .venv-bench
	$(BENCH) -m pip install --quiet --editable . -r benchmarks/requirements.txt
	@touch $@

clean:  ## Remove what make and the tools left behind
	rm -rf .venv* build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(PY):
	python=$${PYTHON:-$$(tools/find_python.sh)} && echo "Setting up $(VENV) with $$python" && $$python -m venv $(VENV)

lock: .venv-lock/bin/uv  ## Write down the newest versions of all that CI installs, with hashes
	tools/lock.sh .venv-lock/bin/uv

.venv-lock/bin/uv:
	$${PYTHON:-$$(tools/find_python.sh)} -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv

ifdef LOCKED
# All at once, so that every extra means the same versions.
$(VENV)/locked.stamp: requirements/ci.txt requirements/django-$(DJANGO_LOCKED).txt pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --no-deps --require-hashes \
	    --requirement requirements/ci.txt --requirement requirements/django-$(DJANGO_LOCKED).txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(PY) -m pip check
	@touch $@

$(VENV)/%.stamp: $(VENV)/locked.stamp
	@touch $@
else
# One stamp for each extra of pyproject.toml. Django 5.2 has no django.tasks of its own.
$(VENV)/%.stamp: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable ".[$*]" $(DJANGO:%="Django~=%.0")
	$(PY) -c "import django.tasks" 2>/dev/null || $(PY) -m pip install --quiet --editable ".[backport]"
	@touch $@
endif
