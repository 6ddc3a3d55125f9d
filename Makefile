# Carillon's tasks. Each does all its own set-up; `make` lists them.

CARGO ?= cargo
RUN = ./target/debug/carillon

.PHONY: help demo test verify fmt clippy doc run clean

help: ## List the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: build ## See the main job work: one agent, one run, one verified callback (KEEP=1: go on until Ctrl-C)
	$(RUN) demo $(if $(KEEP),--keep)

run: build ## Run everything in one process: carillon up
	$(RUN) up

build: toolchain ## Build the development binary
	$(CARGO) build --locked --package carillon

test: toolchain ## Run every test
	$(CARGO) test --locked --workspace

verify: fmt clippy test ## What CI runs

fmt: toolchain ## Check the formatting
	$(CARGO) fmt --all --check

clippy: toolchain ## Check the lints
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc: toolchain ## Build the API documentation of the crates
	$(CARGO) doc --locked --workspace --no-deps

clean: ## Remove what was built
	$(CARGO) clean

# A clear word before a wall of errors.
.PHONY: build toolchain
toolchain:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing: on Debian or Ubuntu, apt-get install build-essential"; exit 1; }
