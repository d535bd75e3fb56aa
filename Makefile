# Everything a developer runs. Nothing here needs root but the installing of a missing distribution package
# (python3-pip, a C compiler, Apache, nftables, what `make vm` needs), which is announced.

# The servers that tests run with, `:` between their paths.
NATS = FOREST_TEST_NATS="$$(ls -d $(CURDIR)/.tools/nats-server-* | paste -sd:)"

# Tests of several nodes at once: slower, and told apart from those that every change runs.
FORESTS = cluster::faults cluster::growth cluster::chaos morpheus:: network::

.PHONY: help demo test forests chaos lint fmt doc deny bench tools test-tools build-tools vm

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## one node, then a forest of three, on this machine, with a real nats-server
	cargo build -q --locked --workspace --bins
	$(NATS) target/debug/demo

test: test-tools ## the tests of every part and of one node, with both versions of nats-server
	$(NATS) cargo test --workspace --locked -- $(addprefix --skip ,$(FORESTS))

forests: tools ## the tests of whole forests: growing, founding, hosts in namespaces, morpheus
	cargo build -q --locked --workspace --bins
	$(NATS) cargo test --locked -p forest-tests --test it -- --test-threads=1 $(FORESTS)

chaos: tools ## twenty seeded rounds of kill -9 at random moments of growing
	cargo build -q --locked --workspace --bins
	$(NATS) FOREST_CHAOS_ROUNDS=20 cargo test --locked -p forest-tests --test it -- --nocapture cluster::chaos

vm: tools ## whole virtual machines: cloud-init, systemd, real CIFS (needs root; VM=NAME plays one)
	@tools/install.sh vm
	cargo build -q --locked --workspace --bins
	$(NATS) tools/vm.sh $(VM)

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

bench: test-tools ## figures, in a release build
	cargo build -q --release --locked --workspace --bins
	$(NATS) target/release/bench

tools: build-tools ## put the nats-servers of the tests into .tools/
	@tools/install.sh nats

# Apache for WebDAV; ufw and nft for hosts of the tests' own: installing them changes no rule of this machine.
test-tools: tools
	@tools/install.sh apache
	@tools/install.sh firewall

build-tools:
	@tools/install.sh build
