# Everything a contributor types. `make help` lists it.

# Cargo finds what it needs in Cargo.lock; --locked makes a forgotten update an error instead of a surprise.
CARGO ?= cargo
# Integration tests mostly wait for servers: a few more than cores, few enough not to starve the servers.
TEST_THREADS ?= 4

.PHONY: help quickstart test lint tools generate conformance image reproducible bench

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables: quickstart takes ONCE=1 (end after the story), CLUSTER=current (the cluster of the present kubeconfig)"
	@echo "  and PROVIDER=gitlab, or another that has a simulator (in Gitea's place);"
	@echo "  bench takes SIZE=10000 (so many bindings in place of 1000) and ONLY=memory (what hostile peers cost in memory)."

quickstart: ## Show the main job end to end on a real cluster and a real Gitea, then leave it running until Ctrl-C
	@tests/controlplane/build --quickstart
	@$(CARGO) build --locked --bin forgebind --example quickstart
	@ONCE='$(ONCE)' CLUSTER='$(CLUSTER)' PROVIDER='$(PROVIDER)' target/debug/examples/quickstart

test: tools ## Run every check and every test; the last line tells how many passed and failed
	@CARGO='$(CARGO)' TEST_THREADS='$(TEST_THREADS)' .ci/test

lint: ## Check format, lints, documentation, licences and duplicate dependencies
	@CARGO='$(CARGO)' .ci/test lint

tools: ## Build what the tests run: Kubernetes, Helm and Gitea, once (says first what it takes)
	@tests/controlplane/build

conformance: ## Ask a provider the whole contract at a sandbox repository of yours (PROVIDER, URL, TOKEN_ENV, REPOSITORY)
	@$(CARGO) build --locked --example conformance
	@PROVIDER='$(PROVIDER)' URL='$(URL)' API_URL='$(API_URL)' TOKEN_ENV='$(TOKEN_ENV)' REPOSITORY='$(REPOSITORY)' \
	  ACCOUNT_USERNAME='$(ACCOUNT_USERNAME)' ACCOUNT_EMAIL='$(ACCOUNT_EMAIL)' OWNER_IS_USER='$(or $(OWNER_IS_USER),false)' \
	  TARGET='$(or $(TARGET),https://example.com/forgebind-conformance)' \
	  ALLOW_CIDRS='$(ALLOW_CIDRS)' ALLOW_INSECURE_HTTP='$(or $(ALLOW_INSECURE_HTTP),false)' \
	  target/debug/examples/conformance

generate: tools ## Rewrite every generated file
	@cd tests/pictures && GOTOOLCHAIN=local GOWORK=off GOFLAGS=-mod=readonly go run . ../../src/docs/pictures
	@UPDATE=1 $(CARGO) test --locked --quiet --test it -- generated checked_in

image: ## Build the image as an OCI layout in target/image/layout, without a daemon or a registry (needs buildah)
	@CARGO='$(CARGO)' .ci/image build

reproducible: ## Build what is in the image twice, in two folders, and compare the bytes
	@CARGO='$(CARGO)' .ci/image reproducible

bench: tools ## Measure the release binary: sizes, times, memory, writes, calls and deliveries, beside what is aimed at
	@$(CARGO) build --locked --profile measure --example bench
	@PROFILE=release SIZE='$(SIZE)' ONLY='$(ONLY)' target/measure/examples/bench
