# Everything a developer runs. Nothing here needs root but the installing of a missing distribution package
# (python3-pip, a C compiler), which is announced.

# The servers that tests run with, `:` between their paths.
NATS = FOREST_TEST_NATS="$$(ls -d $(CURDIR)/.tools/nats-server-* | paste -sd:)"

.PHONY: help demo test lint fmt doc deny bench tools build-tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## one node, then a forest of three, on this machine, with a real nats-server
	cargo build -q --locked --workspace --bins
	$(NATS) target/debug/demo

test: tools ## all tests, with both versions of nats-server
	$(NATS) cargo test --workspace --locked

lint: build-tools ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: build-tools ## format the code
	cargo fmt --all

doc: build-tools ## the API's documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --locked

deny: build-tools ## dependencies: banned crates, licences, sources
	@tools/install.sh deny
	.tools/cargo-deny-* --locked check bans licenses sources

bench: tools ## figures, in a release build
	cargo build -q --release --locked --workspace --bins
	$(NATS) target/release/bench

tools: build-tools ## put the nats-servers of the tests into .tools/
	@tools/install.sh nats

build-tools:
	@tools/install.sh build
