# SPDX-License-Identifier: Apache-2.0
# One set of commands for people and CI. `make` alone lists them.

PYTHON ?= python3
# Cargo profile of the extension that run and test use; see Cargo.toml.
PROFILE ?= release
ARGS ?=
# How many processes share the tests. Much of their time they wait for servers.
TEST_PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip --disable-pip-version-check --quiet
# Build tools come from the environment, where they are pinned: isolated builds would fetch whatever is newest.
PIP_INSTALL := $(PIP) install --constraint constraints.txt --no-build-isolation

NATIVE_SOURCES := $(shell find native proto third_party/proto -type f) Cargo.toml Cargo.lock
EXTENSION := server/taximeter_server/_native.abi3.so

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/.runtime ## Set up what is missing, then serve on 127.0.0.1 (options: make run ARGS="--listen 127.0.0.1:9000")
	@exec $(BIN)/taximeter-server serve $(ARGS)

.PHONY: install
install: $(VENV)/.runtime $(VENV)/.tools ## Set up .venv with the server, the client and every tool
	@echo "Ready: $(BIN)/taximeter-server, $(BIN)/taximeter"

.PHONY: build
build: $(EXTENSION) ## Build the extension in place (PROFILE=dev builds faster and runs slower)

.PHONY: build-release
build-release: $(VENV)/.created ## Build the wheels of server and client into dist/
	@$(BIN)/maturin build --release --locked --out dist
	@$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist ./clients/python
	@ls dist

.PHONY: gen
gen: $(VENV)/.tools ## Generate the committed stubs from the protos
	@$(BIN)/python scripts/generate.py

.PHONY: format
format: $(VENV)/.tools ## Format Python, Rust, Go and protos
	@$(BIN)/ruff check --select I --fix --quiet .
	@$(BIN)/ruff format --quiet .
	@cargo fmt --all
	@cargo fmt --manifest-path clients/rust/Cargo.toml
	@if command -v gofmt >/dev/null; then gofmt -w clients/go; fi
	@$(BIN)/buf format --write

.PHONY: lint
lint: $(VENV)/.runtime $(VENV)/.tools ## Check style, types, layers, protos and generated files
	@BIN=$(BIN) scripts/lint.sh

.PHONY: test
test: $(VENV)/.runtime $(VENV)/.tools ## Run every test but the wide ones
	cargo test --locked --quiet --package taximeter-pricing --package taximeter-load
	$(BIN)/pytest -m "not wide" --numprocesses $(TEST_PROCESSES) $(ARGS)

.PHONY: test-all
test-all: $(VENV)/.runtime $(VENV)/.tools ## Run every test
	cargo test --locked --quiet --package taximeter-pricing --package taximeter-load
	$(BIN)/pytest -m "not wide" --numprocesses $(TEST_PROCESSES) $(ARGS)
	$(BIN)/pytest -m wide $(ARGS)

.PHONY: test-clients
test-clients: $(VENV)/.runtime $(VENV)/.tools ## Run the clients' tests in every language
	$(BIN)/pytest tests/clients $(ARGS)

.PHONY: bench
bench: $(VENV)/.runtime $(VENV)/.tools ## Measure latency, throughput and CPU beside other limiters on the PATH
	@$(PIP) install --constraint constraints.txt --requirement benchmarks/peer-requirements.txt
	@cargo build --locked --release --quiet --package taximeter-load
	$(BIN)/python benchmarks/run.py $(ARGS)

.PHONY: bench-trouble
bench-trouble: $(VENV)/.runtime ## Measure how long checks take while something goes wrong, or much else goes on
	@cargo build --release --locked --package taximeter-load
	@$(PIP) install --constraint constraints.txt --requirement benchmarks/peer-requirements.txt
	$(BIN)/python benchmarks/trouble.py $(ARGS)

.PHONY: bench-growth
bench-growth: $(VENV)/.runtime ## Measure memory per tenant and record, and the cost of a check as tenants grow
	@cargo build --release --locked --package taximeter-load
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/growth.py $(ARGS)

.PHONY: bench-pricing
bench-pricing: $(VENV)/.runtime $(VENV)/.tools ## Measure pricing beside litellm and genai-prices, loading a large card, and repricing
	@$(PIP) install --constraint constraints.txt --requirement benchmarks/pricing-requirements.txt
	@cargo bench --locked --quiet --package taximeter-pricing --bench pricing
	@LITELLM_LOCAL_MODEL_COST_MAP=True $(BIN)/python benchmarks/pricing.py $(ARGS)
	@$(BIN)/python benchmarks/reprice.py

.PHONY: bench-access
bench-access: $(VENV)/.runtime ## Measure what keys, certificates, TLS and sharing between callers cost the server
	$(BIN)/python benchmarks/access.py $(ARGS)

.PHONY: bench-reports
bench-reports: $(VENV)/.runtime $(VENV)/.tools ## Measure reports beside SQLite and PostgreSQL, archiving, and checks beside both
	@cargo build --locked --release --quiet --package taximeter-load
	$(BIN)/python benchmarks/archiving.py
	$(BIN)/python benchmarks/checks_beside_reports.py
	$(BIN)/python benchmarks/report_times.py $(ARGS)

.PHONY: bench-exports
bench-exports: $(VENV)/.runtime ## Measure memory and time of exports of growing ledgers
	$(BIN)/python benchmarks/exports.py $(ARGS)

.PHONY: bench-clients
bench-clients: $(VENV)/.runtime ## Measure what each client adds to a check, beside the bare generated stub
	$(BIN)/python benchmarks/clients.py $(ARGS)

.PHONY: audit
audit: $(VENV)/.runtime $(VENV)/.tools ## Check dependencies: licences, sources, pins, known holes where tools are there
	@BIN=$(BIN) scripts/audit.sh

.PHONY: sbom
sbom: $(VENV)/.runtime ## Print what a build consists of, as a CycloneDX bill of materials
	@$(BIN)/python scripts/sbom.py

.PHONY: lock
lock: ## Resolve all versions again and rewrite constraints.txt
	@PYTHON=$(PYTHON) scripts/lock.sh

.PHONY: clean
clean: ## Remove what was built, .venv included; data directories stay
	rm -rf $(VENV) target dist clients/go/build $(EXTENSION) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find server clients tests benchmarks scripts -type d -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.created: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Taximeter needs Python 3.11 or newer, found: $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@$(PIP) install --constraint constraints.txt editables hatchling maturin
	@touch $@

.PHONY: cargo-present
cargo-present:
	@cargo --version >/dev/null 2>&1 || { \
		echo "Taximeter needs a Rust toolchain, and cargo is not on the PATH. See https://rustup.rs" >&2; exit 1; }

$(EXTENSION): $(NATIVE_SOURCES) | cargo-present $(VENV)/.created
	@echo "Building the extension (profile $(PROFILE))"
	@VIRTUAL_ENV=$(VENV) $(BIN)/maturin develop --skip-install --locked --profile $(PROFILE)
	@touch $@

# Editable: a change to Python takes effect at once, one to Rust rebuilds the extension only.
$(VENV)/.runtime: $(VENV)/.created pyproject.toml clients/python/pyproject.toml | $(EXTENSION)
	@echo "Installing the server and the client"
	@$(PIP_INSTALL) --config-settings=build-args="--locked --profile $(PROFILE)" --editable ./clients/python --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.created pyproject.toml
	@echo "Installing the tools"
	@$(PIP_INSTALL) --group test --group lint
	@if command -v go >/dev/null; then go mod download -C tests/payments/stripe-mock; fi
	@touch $@
