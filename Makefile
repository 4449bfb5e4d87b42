# Plain `make` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTANCE ?= dev
export PYTHONDONTWRITEBYTECODE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup venv programs sandbox demo test lint format bench fuzz mutation faults coverage grammar sandbox-up sandbox-down lock clean
.PHONY: image image-test image-verify image-lock bundle bundle-test bench-image

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: venv programs sandbox ## everything that the rest needs: Python packages, kubectl, helm, jq, the test cluster's programs
	@ln -sf "$$($(PYTHON) image/programs.py --print-bin | tail -n 1)"/{kubectl,helm,jq} $(BIN)/

demo: setup ## a real MCP session against a real API server, from nothing to its transcript (KUBE_CONTEXT=… uses a cluster of yours)
	$(BIN)/python -m tests.demo $(if $(KUBE_CONTEXT),--context "$(KUBE_CONTEXT)")

# Tests keep their bytecode: else each worker of each run compiles all of them anew, half of what collecting them costs.
KEEP_BYTECODE := PYTHONDONTWRITEBYTECODE=

test: setup ## all tests, several processes at once; each starts a sandbox cluster once and stops it again
	$(KEEP_BYTECODE) $(BIN)/pytest -q -n auto --dist loadfile -m "not integration and not image"
	$(KEEP_BYTECODE) $(BIN)/pytest -q -n auto --maxprocesses 3 --dist loadfile -m "integration and not image"

lint: venv ## format, lint and types, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: venv ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only -q .

bench: setup ## medians and ratios in one table: decision, batch, raw command, warm read, start-up, memory, a thousand nodes
	$(BIN)/python -m tests.bench

fuzz: venv programs ## our parser against the programs' own reading of generated lines (LINES=… SECONDS=… SEED=… FILTERS=…)
	$(BIN)/python -m tests.fuzz --verbose $(if $(LINES),--lines $(LINES)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(FILTERS),--filters $(FILTERS))

mutation: venv programs ## weaken the policy on purpose, in a copy: a test has to notice each of tests/mutation/mutations.yaml (WORDS=…)
	$(BIN)/python -m tests.mutation $(WORDS)

faults: setup ## every write of every plan with every failure of the API server, in sandboxes of their own (PROCESSES=3 SCENARIO="…")
	$(BIN)/python -m tests.faults --processes $(or $(PROCESSES),3) $(if $(SCENARIO),--scenario "$(SCENARIO)")

coverage: venv ## branches of command/ and policy/ that the fast tests take; fails below 95 %
	$(BIN)/pytest -q -m "not integration" --cov=obi_mcp --cov-branch --cov-report=json:.coverage.json
	$(BIN)/python -m tests.branches .coverage.json --fail-under 95 command policy

grammar: programs ## regenerate policy/grammar/kubectl.json and helm.json from the pinned programs
	$(PYTHON) image/programs.py --grammar

sandbox-up: setup ## start the test cluster and leave it running (INSTANCE=dev)
	$(PYTHON) tests/sandbox/sandbox.py up --instance $(INSTANCE)

sandbox-down: ## stop the test cluster of `make sandbox-up`
	$(PYTHON) tests/sandbox/sandbox.py down --instance $(INSTANCE)

image: venv ## the container image as OCI layouts and archives, without registry or daemon (PLATFORM=amd64 WITH_OBI=… WITH_ANALYSIS=1)
	$(BIN)/python image/build.py $(addprefix --platform ,$(PLATFORM)) $(if $(WITH_OBI),--with-obi "$(WITH_OBI)") $(if $(WITH_ANALYSIS),--with-analysis)

image-test: setup ## build the image, start a Docker daemon, play the demo through `docker run -i`, look around inside
	$(BIN)/pytest -q -m image tests/image

image-verify: venv ## build the image again, from nothing but downloads, and explain any difference to build/image (FRESH=1: Go programs, too)
	$(BIN)/python image/verify.py $(addprefix --platform ,$(PLATFORM)) $(if $(WITH_OBI),--with-obi "$(WITH_OBI)") $(if $(WITH_ANALYSIS),--with-analysis) $(if $(FRESH),--fresh)

image-lock: venv ## pin the Debian packages that there are now in image/debian.lock
	$(BIN)/python image/build.py --lock

bundle: image ## what a site without a network needs: images, bill of materials, checksums, load.sh (SIGN_KEY=… signs)
	$(BIN)/python image/bundle/__main__.py $(if $(SIGN_KEY),--sign-key "$(SIGN_KEY)")

bundle-test: setup ## load the bundle into an empty daemon and a registry, and play the demo from it
	$(BIN)/pytest -q tests/bundle

bench-image: setup ## sizes layer by layer, start-up and memory of the image, in one table
	PYTHONPATH=image $(BIN)/python -m tests.bench.image

clean: ## remove what was made in this folder (built programs stay in the cache)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

venv: $(VENV)/.ready

$(VENV)/.ready: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V); name another with PYTHON=…" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } || \
	  { echo "Python's venv module is missing: install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

programs: ## build (or find in the cache) kubectl, helm and jq at their pinned versions
	$(PYTHON) image/programs.py

sandbox: ## build (or find in the cache) the programs of the test cluster
	$(PYTHON) tests/sandbox/build.py

lock: ## lock the Python packages again (needs uv)
	uv lock -q
	uv export -q --frozen --no-emit-project --no-dev --format requirements-txt --no-header --no-annotate -o requirements.lock >/dev/null
	uv export -q --frozen --no-emit-project --no-dev --extra analysis --format requirements-txt --no-header --no-annotate -o requirements-analysis.lock >/dev/null
	uv export -q --frozen --no-emit-project --all-groups --all-extras --format requirements-txt --no-header --no-annotate -o requirements-dev.lock >/dev/null
