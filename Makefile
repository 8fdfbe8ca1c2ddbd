# Thin targets; the work is in models/setup.sh, models/fetch.py and cargo.
.PHONY: help setup setup-litert setup-package models-int8 build demo test test-int8 test-jobs test-rest test-quick test-package test-package-release test-gpu test-vm test-slurm test-ssh test-kubernetes test-long test-bytes test-train test-interop lint deny fuzz bench bench-mqtt bench-kernels bench-share bench-pairs bench-backends bench-camera clean deb cross test-boot test-qemu baseline-record baseline-compare
CARGO ?= cargo
SHARED ?= ../shared
BASELINE ?= target/baseline.json
CLIPS ?= $(SHARED)/goldens/public
# CI compiles once, so incremental records have no use.
ifdef CI
export CARGO_INCREMENTAL = 0
endif

# Tests spend a part of their time waiting, so two threads share a core.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 21

setup: ## installs system packages, the TFLite library and the models: pinned, checked by hash, safe to repeat
	@bash models/setup.sh

setup-litert: setup ## also fetches LiteRT: its CPU kernels give MediaPipe's numbers, its accelerator drives a Vulkan GPU
	@python3 models/fetch.py --litert

setup-package: setup models-int8 ## installs what `make deb` and `make test-package` need in addition: lintian and dpkg-dev
	@bash models/setup.sh package

models-int8: setup ## builds the int8 hand models and the pruned f32 one from the pinned model: equal bytes on every machine
	@models/quantise/run.sh models/quantise/build.py

build: setup ## builds target/release/handloom, which runs in place from any folder
	$(CARGO) build --release --locked

demo: build ## draws hands, processes them, shows the table and an image
	target/release/handloom demo --out demo-out

test: setup ## formatting, lints, all tests, and then the package test
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory models-int8 test-int8
	$(CARGO) test --locked --no-run
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=line test-jobs test-rest
	@$(MAKE) --no-print-directory test-package

test-int8: ## two builds of the int8 models are equal, match their pinned hashes and give correct results; seconds
	@models/quantise/run.sh tests/models/int8.py

# These two run in parallel: while one runs a single long test, the other uses the second core.
test-jobs:
	+$(CARGO) test --locked --no-fail-fast --test jobs --test models

test-rest:
	+$(CARGO) test --locked --no-fail-fast --lib --bins --test architecture --test camera --test daemon --test interface
	+$(CARGO) test --locked --doc

test-quick: setup ## the inner loop: unit tests, goldens, the `process` command
	$(CARGO) test --locked --lib
	$(CARGO) test --locked --test architecture
	$(CARGO) test --locked --test models goldens
	$(CARGO) test --locked --test jobs process

test-package: ## packs and checks a .deb for this machine with the tests' build; Debian and its derivatives only
	@if command -v dpkg-deb >/dev/null; then \
	  $(MAKE) --no-print-directory setup-package && $(CARGO) test --locked --no-run --quiet && DEB_PROFILE=debug cross/deb.sh && \
	  DEB_PROFILE=debug python3 tests/deb/inspect_package.py "$$(ls -t target/deb-debug/handloom_*.deb | head -1)"; \
	elif [ -n "$$CI" ]; then \
	  echo "test-package: no dpkg-deb here, so no .deb can be built or checked; CI needs Debian or a derivative" >&2; exit 1; \
	else \
	  echo "SKIPPED: test-package: no dpkg-deb here, so no .deb was built or checked"; \
	fi

test-package-release: deb ## checks the .deb that users install, with the release build: its size, its files, its program
	python3 tests/deb/inspect_package.py "$$(ls -t target/deb/handloom_*.deb | head -1)"

test-gpu: setup-litert ## compares both models on a Vulkan device with the CPU; software Vulkan suffices; ten minutes at most
	$(CARGO) test --locked --test models --no-run
	HANDLOOM_TEST_GPU=1 timeout 600 $(CARGO) test --locked --test models -- gpu:: --nocapture

test-vm: setup ## tests cameras with a kernel driver in a QEMU guest; minutes
	tests/vm/run.sh

test-slurm: build ## runs the Slurm recipe on a real Slurm: a controller and four nodes on this machine; Debian and its derivatives only
	python3 -B tests/cluster/slurm.py

test-ssh: build ## runs the recipe for GNU parallel over three sshd on this machine; Debian and its derivatives only
	python3 -B tests/cluster/ssh.py

test-kubernetes: deb ## checks the Kubernetes manifests with schemas and runs their pods with our image under podman; needs root
	$(CARGO) test --locked --test interface -- cluster
	python3 -B tests/cluster/kubernetes.py

test-long: build ## runs slow sweeps: kills, power cuts, memory over thousands of clips, mutated clips, the release package
	tests/long/kill_sweep.sh
	tests/long/power_sweep.sh
	tests/long/flip_sweep.sh
	HANDLOOM_TEST_CLIPS=12000 $(CARGO) test --locked --test jobs -- report::many_clips --nocapture
	tests/long/soak.sh process 1000
	tests/long/soak.sh run 2000
	tests/long/mutated_clips.py target/release/handloom
	tests/interop/run.sh target/release/handloom
	tests/long/export_many.sh
	tests/long/shard_scale.sh
	@$(MAKE) --no-print-directory test-package-release

test-bytes: build setup-litert ## checks that 1, 2 and 5 workers, ten runs each, write equal bytes with `litert:cpu`, and without LiteRT with `cpu`
	tests/long/equal_bytes.py

test-train: build ## trains the notebook's LSTM on the results of CLIPS under both profiles and with `fast`, ten seeds; fetches PyTorch (3 GB)
	@tests/train/run.sh $(CLIPS)

test-interop: build ## reads the exports with third-party tools: pose_format, datasets, webdataset, pandas; fetches them (400 MB)
	tests/interop/run.sh target/release/handloom

lint: ## checks formatting, lints, documentation, the minimum Rust version, licences and sources of all dependencies
	tests/tools.sh
	target/tools/bin/cargo-deny --log-level error check bans licenses sources
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	tests/minimum_rust.sh

deny: ## checks licences, sources and advisories of all dependencies; needs github.com for the advisory database
	tests/tools.sh
	target/tools/bin/cargo-deny check

fuzz: setup ## runs libFuzzer on the parsers of untrusted input: SECONDS (default 60) for each TARGET (default all); needs g++
	tests/tools.sh
	python3 -B tests/fuzz/run.py --seconds $(or $(SECONDS),60) $(TARGET)

bench: build ## times Handloom and the notebook's pipeline side by side; needs ../shared and its Python packages
	tests/bench/side_by_side.sh

bench-mqtt: build ## measures the cost of MQTT reporting: alternating runs with and without it
	tests/bench/mqtt_cost.sh

bench-kernels: setup ## times warp, colour, palm decode, npz and decode
	$(CARGO) bench --locked --bench kernels

bench-share: build ## shows where a job spends processor time outside the models: DATASET of 640x480 clips; needs perf
	tests/bench/cpu_share.sh $(DATASET) target/release/handloom

bench-pairs: build ## times two ways to process the public clips in alternating runs: WAYS is `shards`, `binaries BASE`, `bad FOLDER` or `backends A B`
	tests/bench/job_pairs.py $(WAYS)

bench-backends: setup-litert ## times one run of each model, alternating between cpu and litert:cpu
	$(CARGO) bench --locked --bench backends

bench-camera: setup ## measures latency and rate from a camera's frame to its landmarks, on one core and on all
	$(CARGO) bench --locked --bench camera --no-run
	taskset -c 0 $(CARGO) bench --locked --bench camera
	$(CARGO) bench --locked --bench camera

baseline-record: build ## records npz bytes, schemas, options, exit codes and config keys in target/baseline.json; needs ../shared
	python3 -B tests/baseline/record.py --shared $(SHARED) target/release/handloom $(BASELINE)

baseline-compare: build ## records the same again and prints the differences from target/baseline.json, or from BASELINE=FILE
	python3 -B tests/baseline/record.py --shared $(SHARED) target/release/handloom target/baseline-now.json
	python3 -B tests/baseline/compare.py --allow tests/baseline/allowed.txt $(BASELINE) target/baseline-now.json

clean: ## removes build results and the demo; keeps what setup fetched
	$(CARGO) clean
	rm -rf demo-out

deb: setup-package build ## builds target/deb/handloom_VERSION_ARCH.deb for this machine
	cross/deb.sh

cross: ## builds binary and .deb for aarch64 (Raspberry Pi, Jetson) on an x86-64 Linux; see cross/README.md
	cross/build.sh

test-boot: deb ## tests the .deb on a booted Debian 12: install, job, kills, hang, reboot, upgrade, purge; needs root
	tests/boot/run.sh

test-qemu: build models-int8 ## tests the arm64 .deb of `make cross` under qemu-user: one clip, also in reduced precision; needs root
	tests/boot/arm64.sh
	tests/models/int8_arm64.sh
