# Commands for contributors. `make help` lists them.

# All cargo commands use --locked, so that a forgotten update of Cargo.lock is an error.
CARGO ?= cargo
# Integration tests mostly wait for servers: run more than there are cores, but not so many that the servers starve.
TEST_THREADS ?= 4

.PHONY: help quickstart test lint tools generate conformance image reproducible bench soak fuzz

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables: quickstart takes ONCE=1 (exit at the end), CLUSTER=current (the cluster of the current kubeconfig)"
	@echo "  and PROVIDER=gitlab, or another provider that has a simulator (instead of Gitea);"
	@echo "  bench takes SIZE=10000 (number of bindings instead of 1000) and ONLY=memory (memory use with hostile peers)"
	@echo "  or ONLY=deliveries (the receiver);"
	@echo "  fuzz takes FUZZ_SECONDS=60 (for each target, instead of 600) and ONLY=glob (one target)."

quickstart: ## Demonstrate the main use end to end with a real cluster and a real Gitea; runs until Ctrl-C
	@tests/controlplane/build --quickstart
	@$(CARGO) build --locked --bin forgebind --example quickstart
	@ONCE='$(ONCE)' CLUSTER='$(CLUSTER)' PROVIDER='$(PROVIDER)' target/debug/examples/quickstart

test: tools ## Run all checks and tests; the last line has the numbers of passed and failed ones
	@CARGO='$(CARGO)' TEST_THREADS='$(TEST_THREADS)' .ci/test

soak: tools ## Kill and stop two receivers for an hour (SECONDS) and check that no acknowledged delivery is lost
	@FORGEBIND_SOAK_SECONDS='$(or $(SECONDS),3600)' $(CARGO) test --locked --test it -- --nocapture \
	  what_two_receivers_acknowledged

lint: ## Check format, lints, documentation, licences and duplicate dependencies
	@CARGO='$(CARGO)' .ci/test lint

tools: ## Build the tools for the tests once: Kubernetes, Helm and Gitea (prints the requirements first)
	@tests/controlplane/build

conformance: ## Run the provider contract tests against your sandbox repository (PROVIDER, URL, TOKEN_ENV, REPOSITORY)
	@$(CARGO) build --locked --example conformance
	@PROVIDER='$(PROVIDER)' URL='$(URL)' API_URL='$(API_URL)' TOKEN_ENV='$(TOKEN_ENV)' REPOSITORY='$(REPOSITORY)' \
	  ACCOUNT_USERNAME='$(ACCOUNT_USERNAME)' ACCOUNT_EMAIL='$(ACCOUNT_EMAIL)' OWNER_IS_USER='$(or $(OWNER_IS_USER),false)' \
	  TARGET='$(or $(TARGET),https://example.com/forgebind-conformance)' \
	  ALLOW_CIDRS='$(ALLOW_CIDRS)' ALLOW_INSECURE_HTTP='$(or $(ALLOW_INSECURE_HTTP),false)' \
	  target/debug/examples/conformance

generate: tools ## Regenerate all generated files
	@cd tests/pictures && GOTOOLCHAIN=local GOWORK=off GOFLAGS=-mod=readonly go run . ../../src/docs/pictures
	@UPDATE=1 $(CARGO) test --locked --quiet --test it -- generated checked_in

image: ## Build the image as an OCI layout in target/image/layout, without a daemon or a registry (needs buildah)
	@CARGO='$(CARGO)' .ci/image build

reproducible: ## Build the content of the image twice, in two folders, and compare the files
	@CARGO='$(CARGO)' .ci/image reproducible

bench: tools ## Measure the release binary: sizes, times, memory, writes, calls and deliveries, with the targets
	@$(CARGO) build --locked --profile measure --example bench
	@PROFILE=release SIZE='$(SIZE)' ONLY='$(ONLY)' target/measure/examples/bench

fuzz: ## Run each fuzz target for FUZZ_SECONDS seconds (needs the nightly toolchain of rustup)
	@FUZZ_SECONDS='$(or $(FUZZ_SECONDS),600)' ONLY='$(ONLY)' .ci/fuzz
