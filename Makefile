# Carillon's tasks. Each does all its own set-up; `make` lists them.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),./target)
RUN = $(TARGET)/debug/carillon
SERVICES = deploy/local/services.sh
MICROSERVICES = --package agent-registry --package agent-runner --package callback-deliverer \
	--package cron-dispatcher --package service-registry
# Each test waits for a broker to make its queues: more of them at a time than there are processors.
TEST_THREADS ?= 8
BENCH_SERVICES = CARILLON_SERVICES_DIR=$(CURDIR)/target/bench-services $(SERVICES)
BENCH_PARTS = delivery neighbours kills burst fairness end-to-end steady api idle growth
FAULT_SERVICES = CARILLON_SERVICES_DIR=$(CURDIR)/target/fault-services $(SERVICES)

.PHONY: help demo test validate-deploy test-simulation test-tls test-clients test-openapi test-receivers test-kills test-providers verify fmt clippy doc run clean up down services-up services-down test-distributed test-drain test-faults test-some-faults

help: ## List the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# OPENAI_BASE_URL, OPENAI_MODEL and OPENAI_API_KEY reach it through the environment: a real model instead of echo.
demo: build ## See the main job work: one agent, one run, one verified callback (KEEP=1: go on until Ctrl-C)
	$(RUN) demo $(if $(KEEP),--keep)

run: build ## Run everything in one process: carillon up
	$(RUN) up

build: toolchain ## Build the development binary
	$(CARGO) build --locked --package carillon

# Everything on SQLite and the embedded bus; then every microservice on PostgreSQL, and the bus on RabbitMQ. The servers
# are private ones; those that were not running before are stopped at the end.
test: toolchain ## Run the tests, on SQLite and on a PostgreSQL and a RabbitMQ of its own (longer ones have targets of their own)
	env -u CARILLON_TEST_POSTGRES_URL -u CARILLON_TEST_AMQP_URL $(CARGO) test --locked --workspace
	$(SERVICES) run $(MAKE) test-with-services

test-with-services:
	$(CARGO) test --locked $(MICROSERVICES) --test it --test memory -- --test-threads=$(TEST_THREADS)
	$(CARGO) test --locked --package bus --test rabbitmq
	$(CARGO) test --locked $(MICROSERVICES) --package carillon --test servers

# In the same target directory: what differs (libpq, diesel, service-kit) stands there beside its other form, and
# everything else is built already. The whole workspace is named so that nothing else is built in another form.
test-tls: toolchain ## Test TLS to PostgreSQL, which needs the system's libpq (libpq-dev)
	$(SERVICES) libpq
	$(SERVICES) run $(CARGO) test --locked --workspace --no-default-features --features libpq --test tls

up: toolchain ## Start the distributed stack: every microservice its own process, over PostgreSQL and RabbitMQ
	$(CARGO) build --locked --workspace
	deploy/local/stack.sh up

down: ## Stop it
	deploy/local/stack.sh down

services-up: ## Start a private PostgreSQL and RabbitMQ (deploy/local/services.sh env: where they are)
	$(SERVICES) up

services-down: ## Stop them
	$(SERVICES) down

# Of CI too: what is deployed is held against the binaries that were just tested.
validate-deploy: toolchain ## Check deploy/ against schemas, configuration, ports, paths and metrics (needs Python and PyPI)
	$(CARGO) build --locked --workspace
	deploy/kubernetes/validate/run $(TARGET)/debug

test-clients: build ## Drive Carillon with clients that others wrote (needs Python, PyPI, Node and npm)
	tests/clients/run $(RUN)

test-openapi: build ## Attack Carillon with requests made from its own documents (needs Python and PyPI)
	tests/openapi/run $(RUN)

test-receivers: toolchain ## Deliver to receivers that verify as docs/receiving.md says, in six languages (needs PyPI, npm)
	CARGO=$(CARGO) crates/callback-deliverer/tests/receivers/run

test-kills: toolchain ## Kill the deliverer a hundred times between POST and commit, and freeze it, on both databases (8 minutes)
	env -u CARILLON_TEST_POSTGRES_URL $(CARGO) test --locked --package callback-deliverer --test kills -- --nocapture
	$(SERVICES) run $(CARGO) test --locked --package callback-deliverer --test kills -- --nocapture

test-providers: build ## Ask an OpenAI-compatible server that others wrote (needs Python and PyPI)
	CARGO=$(CARGO) crates/agent-runner/tests/litellm/run $(RUN)

# Every microservice its own process, over servers that no other test uses, since they are broken; one test at a time.
test-distributed: toolchain ## Many of each microservice: 10,000 ticks while one of each freezes
	$(FAULT_SERVICES) run $(MAKE) run-distributed TESTS=many::

test-faults: toolchain ## Kill, stop, wipe and restore while agents fire; prints the table of docs/reliability.md
	rm -f target/fault-services/faults.md
	$(FAULT_SERVICES) run $(MAKE) run-distributed TESTS=faults::
	$(FAULT_SERVICES) run $(CARGO) test --locked --package callback-deliverer --test faults -- --nocapture
	cat target/fault-services/faults.md

# A development build on a small machine may not do so many runs per second: PROFILE=release, or RATE=100 ROUNDS=5.
test-drain: toolchain ## Stop each microservice 20 times while 500 runs per second go on: nothing lost, nothing twice
	$(FAULT_SERVICES) run $(MAKE) run-distributed TESTS=drain::

# All of them take a quarter of an hour.
test-some-faults: toolchain ## Three of them: kill -9 of each microservice, the broker stopped, PostgreSQL stopped
	$(FAULT_SERVICES) run $(MAKE) run-distributed TESTS="killed_in_turn broker_is_stopped database_server_crashes"

OPTIMISED = $(if $(PROFILE),--profile $(PROFILE))
run-distributed:
	$(CARGO) build --locked $(OPTIMISED) --workspace --features service-kit/test-clock
	$(CARGO) test --locked $(OPTIMISED) --package carillon --test distributed -- --test-threads=1 --nocapture $(TESTS)

# Everything beside what the machine does at most, over servers that nobody else uses. PART=burst is one part, and so is
# `make bench-burst`; QUICK=1 is a look, not a measurement.
bench: toolchain ## Measure every part but the lists: docs/benchmarks.md (about 40 minutes; QUICK=1: 8; PART=delivery: one part)
	$(CARGO) build --locked --release --workspace
	$(BENCH_SERVICES) run $(MAKE) run-bench

run-bench:
	@for part in $(or $(PART),$(BENCH_PARTS)); do \
	    $(TARGET)/release/bench --binary $(TARGET)/release/carillon $(if $(QUICK),--quick) $$part || exit 1; \
	done

bench-%: toolchain
	$(MAKE) bench PART=$*

bench-lists: toolchain ## Measure the lists of a million agents and ten million logs (about 10 minutes, 10 GiB of disk)
	$(CARGO) build --locked --release --package carillon --package bench
	$(SERVICES) run $(TARGET)/release/bench --binary $(TARGET)/release/carillon lists

# AGENTS=1000 SEEDS=1 is the year of a thousand schedules, in some 50 seconds of a processor. What takes the time is built
# with optimisation, beside the same of other tests.
test-simulation: toolchain ## A year of random schedules, owners, outages and clocks, for 20 seeds
	CARILLON_SIMULATION_SEEDS=$(or $(SEEDS),20) CARILLON_SIMULATION_AGENTS=$(or $(AGENTS),30) \
	    $(CARGO) --config crates/cron-dispatcher/simulation.toml test --locked \
	        --package cron-dispatcher --lib simulation -- --nocapture

verify: fmt clippy test ## What CI runs first

fmt: toolchain ## Check the formatting
	$(CARGO) fmt --all --check

clippy: toolchain ## Check the lints
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --package agent-runner --test litellm -- -D warnings
	$(CARGO) clippy --locked --package bus --test rabbitmq -- -D warnings
	$(CARGO) clippy --locked --package callback-deliverer --test faults --test receivers --test kills -- -D warnings
	$(CARGO) clippy --locked --package carillon --test distributed --test servers -- -D warnings

doc: toolchain ## Build the API documentation of the crates
	$(CARGO) doc --locked --workspace --no-deps

clean: ## Remove what was built, and what the private servers stored
	$(SERVICES) wipe
	$(FAULT_SERVICES) wipe
	$(BENCH_SERVICES) wipe
	$(CARGO) clean

# A clear word before a wall of errors.
.PHONY: build toolchain test-with-services run-distributed test-distributed test-drain test-faults run-distributed bench run-bench
toolchain:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing: on Debian or Ubuntu, apt-get install build-essential"; exit 1; }
