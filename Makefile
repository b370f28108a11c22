# make demo, make test: each sets itself up in .venv and says what it is doing.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
BENCH := .venv-bench
UV := $(BIN)/uv
export UV_PYTHON_DOWNLOADS := never

SECONDS ?= 60
# Three files of tests at a time (they wait much), each test process with servers of its own.
TOGETHER := -n 3 --dist loadfile

.PHONY: demo test faults ledger bench latency purge-bench versions lint types compose format clean

demo: .venv/demo
	@$(BIN)/torpor demo $(ARGS)

test: .venv/dev
	@echo "== running the tests"
	@$(BIN)/pytest $(TOGETHER) tests/unit tests/integration $(ARGS)

# Workers that are killed, servers that are cut off: real processes, and so real minutes.
faults: .venv/dev
	@echo "== running the fault tests"
	@$(BIN)/pytest $(TOGETHER) tests/faults $(ARGS)

# Every kind of server that people run: tests/support/servers.py tells what each of them is.
SERVERS := redis-6.2 valkey-8 cluster acl

versions: .venv/dev
	@set -e; for server in $(SERVERS); do \
	    echo "== running the integration tests on $$server"; \
	    $(BIN)/pytest -q $(TOGETHER) --server $$server -k "not gcs and not seven_hundred" tests/integration $(ARGS); \
	done

ledger: .venv/dev
	@echo "== writing and killing for $(SECONDS) s, then counting every message"
	@$(BIN)/python tests/ledger.py --seconds $(SECONDS)

bench: $(BENCH)/ready
	@echo "== measuring Torpor beside what a user would pick instead" >&2
	@PYTHONPATH=.:tests $(BENCH)/bin/python -m bench.compare $(ARGS)

latency: .venv/dev
	@echo "== measuring how soon a worker acts"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/latency.py $(ARGS)

purge-bench: .venv/dev
	@echo "== purging an owner with many sessions"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/purge.py $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

compose: .venv/dev
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv $(BENCH) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --inexact keeps uv itself, which is in no lock file.
.venv/demo: $(UV) uv.lock pyproject.toml
	@echo "== installing what the demo needs in .venv"
	@$(UV) sync --locked --inexact --no-dev --extra demo
	@touch $@

.venv/dev: $(UV) uv.lock pyproject.toml
	@echo "== installing what the tests need in .venv"
	@$(UV) sync --locked --inexact --all-extras
	@touch $@ .venv/demo

# The lock's versions, and beside them the peer, which asks for older ones than it needs.
$(BENCH)/ready: $(UV) uv.lock pyproject.toml tests/bench/overrides.txt
	@echo "== installing what the benchmark needs in $(BENCH)" >&2
	@UV_PROJECT_ENVIRONMENT=$(BENCH) $(UV) sync --locked --all-extras
	@$(UV) pip install --python $(BENCH) --override tests/bench/overrides.txt langchain-google-memorystore-redis==0.3.0
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Torpor needs Python 3.11 or later; set PYTHON=")'
	@echo "== making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install 'uv>=0.9,<1'
