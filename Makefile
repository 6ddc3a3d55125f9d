# Carillon's tasks. Each does all its own set-up; `make` lists them.

CARGO ?= cargo
RUN = ./target/debug/carillon

.PHONY: help demo test test-clients test-providers verify fmt clippy doc run clean

help: ## List the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# OPENAI_BASE_URL, OPENAI_MODEL and OPENAI_API_KEY reach it through the environment: a real model instead of echo.
demo: build ## See the main job work: one agent, one run, one verified callback (KEEP=1: go on until Ctrl-C)
	$(RUN) demo $(if $(KEEP),--keep)

run: build ## Run everything in one process: carillon up
	$(RUN) up

build: toolchain ## Build the development binary
	$(CARGO) build --locked --package carillon

test: toolchain ## Run every test
	$(CARGO) test --locked --workspace

test-clients: build ## Drive Carillon with clients that others wrote (needs Python and PyPI)
	tests/clients/run ./target/debug/carillon

test-providers: build ## Ask an OpenAI-compatible server that others wrote (needs Python and PyPI)
	CARGO=$(CARGO) crates/agent-runner/tests/litellm/run ./target/debug/carillon

verify: fmt clippy test ## What CI runs

fmt: toolchain ## Check the formatting
	$(CARGO) fmt --all --check

clippy: toolchain ## Check the lints
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --package agent-runner --test litellm -- -D warnings

doc: toolchain ## Build the API documentation of the crates
	$(CARGO) doc --locked --workspace --no-deps

clean: ## Remove what was built
	$(CARGO) clean

# A clear word before a wall of errors.
.PHONY: build toolchain
toolchain:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing: on Debian or Ubuntu, apt-get install build-essential"; exit 1; }
