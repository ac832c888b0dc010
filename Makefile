# obpilot. `make demo` shows it, `make test` proves it; `make help` lists the rest.
#
# Needs a Rust toolchain (1.95), gcc, make, python3 with pip. Everything else is fetched into build/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The real engine: what PyPI offers as pylibseekdb holds the seekdb executable.
ENGINE_PACKAGE := pylibseekdb==1.4.0.post1
ENGINE := build/engine/pylibseekdb/seekdb
# OBShell's own client, which the tests drive unpatched.
SDK_PACKAGE := obshell==0.0.9
SDK := build/python/obshell/__init__.py
# Asks a running agent whatever its OpenAPI document allows, and what it does not; what it asks is hypothesis' choice.
SCHEMA_PACKAGE := schemathesis==4.32.5 hypothesis==6.170.15
SCHEMA := build/schemathesis/schemathesis/__init__.py
DENY_VERSION := 0.20.2
DENY := build/tools/bin/cargo-deny

# What /api/v1/git-info tells of a release build; empty outside a checkout.
build bench soak: export OBPILOT_COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
build bench soak: export OBPILOT_BRANCH := $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null)
build bench soak: export OBPILOT_COMMIT_TIME := $(shell git log -1 --format=%cI 2>/dev/null)

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

.PHONY: demo
demo: build engine ## Everything set up, and the main job seen running; HOLD=1 leaves it running
	@tests/demo/one_host.sh
	@tests/demo/three_hosts.sh

.PHONY: test
test: check engine sdk schema ## Everything set up, and every test passed
	cargo test --locked
	cargo test --locked --features obpilot/crash-points --test crash -- --nocapture
	@[ -w /sys/fs/cgroup/memory ] || [ -w /sys/fs/cgroup/cgroup.subtree_control ] || \
		echo "left out, it needs a control group of its own: a start that is killed for memory"
	@[ "$$(id -u)" = 0 ] || echo "left out, they need root: other users on the socket, a home of another user, full disks (3), networks that break (7)"
	@echo "make test: everything passed"

.PHONY: fuzz
fuzz: ## Torn input beyond what `make test` feeds: SECS=3600 for an hour, FROM=N from another number on
	OBPILOT_FUZZ_SECS=$(or $(SECS),60) OBPILOT_FUZZ_FROM=$(or $(FROM),1000000) cargo test --locked --test fuzz

.PHONY: check
check: deny ## What needs no running: format, lints, docs, licences
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features obpilot/crash-points -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	$(DENY) --locked check bans licenses sources

.PHONY: bench
bench: engine ## What it costs, measured now beside the same work done bare; QUICK=1 in three minutes, ONLY=engine one section
	cargo build --locked --release --package observer-sim
	QUICK=$(QUICK) ONLY=$(ONLY) cargo bench --locked --bench bench

.PHONY: soak
soak: ## Endurance: three agents operated at random while they are killed; MINUTES=30, SEED=n repeats a run, PROFILE=dev
	cargo build --locked --profile $(or $(PROFILE),release) --package observer-sim
	MINUTES=$(or $(MINUTES),30) SEED=$(SEED) cargo bench --locked --profile $(or $(PROFILE),release) --bench soak

.PHONY: build
build: ## The release binary, target/release/obpilot
	cargo build --locked --release

.PHONY: proto
proto: ## Writes the documents in proto/ anew from the code
	@mkdir -p build
	cargo run --locked --quiet -- debug openapi > build/openapi.json && mv build/openapi.json proto/openapi.json
	cargo run --locked --quiet -- debug errors > build/errors.json && mv build/errors.json proto/errors.json
	cargo run --locked --quiet -- debug openapi-v2 > build/openapi-v2.json && mv build/openapi-v2.json proto/openapi-v2.json
	cargo run --locked --quiet -- debug ocp-errors > build/ocp-errors.json && mv build/ocp-errors.json proto/ocp-errors.json

.PHONY: engine sdk schema deny
engine: $(ENGINE)
sdk: $(SDK)
schema: $(SCHEMA)
deny: $(DENY)

# A package lands in a folder of its own and is moved when it is whole: an interrupted download leaves no half of it.
define fetch
	@mkdir -p build
	@rm -rf $(1).part
	python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --target $(1).part $(2) $(3)
	@rm -rf $(1)
	@mv $(1).part $(1)
endef

$(ENGINE):
	@echo "fetching the real engine ($(ENGINE_PACKAGE)) into build/engine"
	$(call fetch,build/engine,--no-deps,$(ENGINE_PACKAGE))

$(SDK):
	@echo "fetching the client SDK ($(SDK_PACKAGE)) into build/python"
	$(call fetch,build/python,,$(SDK_PACKAGE))

$(SCHEMA):
	@echo "fetching the tester of the OpenAPI document ($(SCHEMA_PACKAGE)) into build/schemathesis"
	$(call fetch,build/schemathesis,,$(SCHEMA_PACKAGE))

# Unoptimised: it is compiled in a minute instead of ten, and has two seconds to work.
$(DENY):
	@echo "installing cargo-deny $(DENY_VERSION) into build/tools"
	cargo install --quiet --locked --debug --root build/tools --target-dir build/tools/target cargo-deny@$(DENY_VERSION)
	@rm -rf build/tools/target

.PHONY: clean
clean: ## Removes what was built and fetched
	rm -rf target build
