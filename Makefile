# Everything a developer runs. Root is needed to install a missing package of the distribution (python3-pip, a C
# compiler, Apache, nftables, what `make vm` needs), which is announced, and by tests that make network namespaces and
# mounts of their own.

# The servers that tests run with, `:` between their paths.
NATS = FOREST_TEST_NATS="$$(ls -d $(CURDIR)/.tools/nats-server-* | paste -sd:)"

# Tests of whole forests: all run by `make test`, and together by `make forests`.
FORESTS = cluster:: morpheus:: network:: rogue::

# Most of what the flows do is wait for servers: more of them at once than there are processors.
THREADS = RUST_TEST_THREADS=4

.PHONY: help demo test forests chaos leave lint fmt doc deny bench cloud tools test-tools build-tools vm

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## a forest of three on this machine, and what a node is made of, with a real nats-server
	cargo build -q --locked --workspace --bins
	$(NATS) target/debug/demo

test: test-tools ## all tests, on whole forests too, with both versions of nats-server
	$(NATS) $(THREADS) cargo test --workspace --locked

forests: tools ## of these the tests of whole forests alone: growing, founding, hosts in namespaces, morpheus
	cargo build -q --locked --workspace --bins
	$(NATS) $(THREADS) cargo test --locked -p forest-tests --test it -- $(FORESTS)

CHAOS = cluster::chaos that_is_killed
chaos: tools ## twenty forests planted at one moment, fifty that grow, thirty each that shrink, are taken over, upgraded: under kill -9
	cargo build -q --locked --workspace --bins
	$(NATS) $(THREADS) FOREST_CHAOS=long cargo test --locked -p forest-tests --test it -- --nocapture $(CHAOS)

leave: tools ## forests that get smaller: under load, killed, after a death (minutes each)
	cargo build -q --locked --workspace --bins
	$(NATS) cargo test --locked -p forest-tests --test it -- --nocapture --include-ignored --test-threads=1 cluster::leave

cloud: test-tools ## a laptop killed after every single call of the provider's API, in turn
	cargo build -q --locked --workspace --bins
	$(NATS) FOREST_CLOUD_STRIDE=1 cargo test --locked -p forest-tests --test it -- --nocapture hetzner_cloud::killed

vm: tools ## whole virtual machines: cloud-init, systemd, real CIFS (needs root; VM="NAME…" plays those, `classic` and `cloud` only so)
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

bench: test-tools ## figures, in a release build (BENCH=plant: that one alone)
	cargo build -q --release --locked --workspace --bins
	$(NATS) target/release/bench $(BENCH)

tools: build-tools ## put the nats-servers of the tests into .tools/
	@tools/install.sh nats

# Apache for WebDAV; ufw and nft for hosts of the tests' own: installing them changes no rule of this machine.
test-tools: tools
	@tools/install.sh apache
	@tools/install.sh firewall

build-tools:
	@tools/install.sh build
