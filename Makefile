# make demo, make test: each sets itself up in .venv and says what it is doing.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
UV := $(BIN)/uv
export UV_PYTHON_DOWNLOADS := never

SECONDS ?= 60
# Three files of tests at a time (they wait much), each test process with servers of its own.
TOGETHER := -n 3 --dist loadfile

.PHONY: demo test faults ledger latency purge-bench versions lint types compose format clean

demo: .venv/demo
	@$(BIN)/torpor demo $(ARGS)

test: .venv/dev
	@echo "== running the tests"
	@$(BIN)/pytest $(TOGETHER) tests/unit tests/integration $(ARGS)

# Workers that are killed, servers that are cut off: real processes, and so real minutes.
faults: .venv/dev
	@echo "== running the fault tests"
	@$(BIN)/pytest $(TOGETHER) tests/faults $(ARGS)

# Every kind of server that people run: tests/conftest.py tells what each of them is.
SERVERS := redis-6.2 valkey-8 cluster acl

versions: .venv/dev
	@set -e; for server in $(SERVERS); do \
	    echo "== running the integration tests on $$server"; \
	    $(BIN)/pytest -q $(TOGETHER) --server $$server -k "not gcs and not seven_hundred" tests/integration $(ARGS); \
	done

ledger: .venv/dev
	@echo "== writing and killing for $(SECONDS) s, then counting every message"
	@$(BIN)/python tests/ledger.py --seconds $(SECONDS)

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
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --inexact keeps uv itself, which is in no lock file.
.venv/demo: $(UV) uv.lock pyproject.toml
	@echo "== installing what the demo needs in .venv"
	@$(UV) sync --locked --inexact --no-dev --extra demo
	@touch $@

.venv/dev: $(UV) uv.lock pyproject.toml
	@echo "== installing what the tests need in .venv"
	@$(UV) sync --locked --inexact --all-extras
	@touch $@ .venv/demo

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Torpor needs Python 3.11 or later; set PYTHON=")'
	@echo "== making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install 'uv>=0.9,<1'
