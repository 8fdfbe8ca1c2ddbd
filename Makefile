# Thin targets; the work is in models/setup.sh, models/fetch.py and cargo.
.PHONY: help setup setup-litert setup-package models-int8 build demo test test-int8 test-jobs test-rest test-quick test-package test-package-release test-gpu test-vm test-slurm test-ssh test-kubernetes test-long test-bytes test-train test-interop lint deny fuzz bench bench-mqtt bench-rooms bench-share bench-pairs bench-backends bench-camera clean deb cross test-boot test-qemu baseline-record baseline-compare
CARGO ?= cargo
SHARED ?= ../shared
BASELINE ?= target/baseline.json
CLIPS ?= $(SHARED)/goldens/public
# What is compiled once needs no records for the next time.
ifdef CI
export CARGO_INCREMENTAL = 0
endif

# Tests wait for events for a part of their time.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 21

setup: ## system packages, TFLite library and models: pinned, checked by hash, safe to repeat
	@bash models/setup.sh

setup-litert: setup ## LiteRT as well: its CPU kernels give MediaPipe's numbers, its accelerator drives a Vulkan GPU
	@python3 models/fetch.py --litert

setup-package: setup models-int8 ## what `make deb` and `make test-package` need besides: lintian and dpkg-dev
	@bash models/setup.sh package

models-int8: setup ## the int8 hand models, and the f32 one without unused channels, from the pinned one: equal bytes everywhere
	@models/quantise/run.sh models/quantise/build.py

build: setup ## target/release/handloom, runnable in place from any folder
	$(CARGO) build --release --locked

demo: build ## draw hands, process them, show the table and a picture
	target/release/handloom demo --out demo-out

test: setup ## formatting, lints, all tests, and then the package
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory models-int8 test-int8
	$(CARGO) test --locked --no-run
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=line test-jobs test-rest
	@$(MAKE) --no-print-directory test-package

test-int8: ## the int8 models come out the same twice and as pinned, and compute what they should; seconds
	@models/quantise/run.sh tests/models/int8.py

# Side by side: a long test of one leaves a core to the other.
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

test-package: ## the .deb of this machine, with the tests' build of the program, unpacked and checked; Debian and its like alone
	@if command -v dpkg-deb >/dev/null; then \
	  $(MAKE) --no-print-directory setup-package && $(CARGO) test --locked --no-run --quiet && DEB_PROFILE=debug cross/deb.sh && \
	  DEB_PROFILE=debug python3 tests/deb/look.py "$$(ls -t target/deb-debug/handloom_*.deb | head -1)"; \
	elif [ -n "$$CI" ]; then \
	  echo "test-package: no dpkg-deb here, so no .deb can be built or judged; CI runs on Debian or its like" >&2; exit 1; \
	else \
	  echo "SKIPPED: test-package: no dpkg-deb here, so no .deb was built and none was judged"; \
	fi

test-package-release: deb ## the .deb that users install, with the release build: its size and its program at work
	python3 tests/deb/look.py "$$(ls -t target/deb/handloom_*.deb | head -1)"

test-gpu: setup-litert ## both models on a Vulkan device against the CPU; software Vulkan counts, ten minutes at most
	$(CARGO) test --locked --test models --no-run
	HANDLOOM_TEST_GPU=1 timeout 600 $(CARGO) test --locked --test models -- gpu:: --nocapture

test-vm: setup ## cameras against a kernel driver, in a QEMU guest: minutes
	tests/vm/run.sh

test-slurm: build ## the recipe for Slurm on a real one, a controller and four nodes on this machine; Debian and its like alone
	python3 -B tests/cluster/slurm.py

test-ssh: build ## the recipe for GNU parallel over three sshd on this machine; Debian and its like alone
	python3 -B tests/cluster/ssh.py

test-kubernetes: deb ## schemas for the Kubernetes manifests, and their pods with our image under podman; needs root
	$(CARGO) test --locked --test interface -- cluster
	python3 -B tests/cluster/kubernetes.py

test-long: build ## slow sweeps: kills, power cuts, memory over thousands of clips, mutated clips, the release package
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

test-bytes: build setup-litert ## 1, 2 and 5 workers, ten runs each: equal bytes for `litert:cpu`, and without LiteRT for `cpu`
	tests/long/equal_bytes.py

test-train: build ## trains the notebook's LSTM on the results of CLIPS under both profiles and with `fast`, ten seeds; fetches PyTorch (3 GB)
	@tests/train/run.sh $(CLIPS)

test-interop: build ## the tools of others read the exports: pose_format, datasets, webdataset, pandas; fetches them (400 MB)
	tests/interop/run.sh target/release/handloom

lint: ## formatting, lints, documentation, the minimum Rust version, licences and sources of all dependencies
	tests/tools.sh
	target/tools/bin/cargo-deny --log-level error check bans licenses sources
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	tests/minimum_rust.sh

deny: ## licences, sources and advisories of all dependencies; the database of advisories comes from github.com alone
	tests/tools.sh
	target/tools/bin/cargo-deny check

fuzz: setup ## libFuzzer over what reads others' bytes: SECONDS for each TARGET, 60 and all by default; needs g++
	tests/tools.sh
	python3 -B tests/fuzz/run.py --seconds $(or $(SECONDS),60) $(TARGET)

bench: build ## side by side with the notebook's pipeline, when ../shared and its Python packages are there
	tests/bench/side_by_side.sh

bench-mqtt: build ## what reporting over MQTT costs, against none, in alternating runs
	tests/bench/mqtt_cost.sh

bench-rooms: setup ## times of warp, colour, palm decode, npz and decode
	$(CARGO) bench --locked --bench rooms

bench-share: build ## where a job's processor time goes, beside the models: DATASET of 640x480 clips; needs perf
	tests/bench/cpu_share.sh $(DATASET) target/release/handloom

bench-pairs: build ## two ways to process the public clips, in alternating runs: WAYS is `shards`, `binaries BASE`, `bad FOLDER` or `backends A B`
	tests/bench/job_pairs.py $(WAYS)

bench-backends: setup-litert ## times of one run of each model, cpu beside litert:cpu, taking turns
	$(CARGO) bench --locked --bench backends

bench-camera: setup ## from a camera's frame to its landmarks: latency and rate, on one core and on all
	$(CARGO) bench --locked --bench camera --no-run
	taskset -c 0 $(CARGO) bench --locked --bench camera
	$(CARGO) bench --locked --bench camera

baseline-record: build ## records npz bytes, schemas, options, exit codes and config keys in target/baseline.json; needs ../shared
	python3 -B tests/baseline/record.py --shared $(SHARED) target/release/handloom $(BASELINE)

baseline-compare: build ## records them again and prints what differs from target/baseline.json, or from BASELINE=FILE
	python3 -B tests/baseline/record.py --shared $(SHARED) target/release/handloom target/baseline-now.json
	python3 -B tests/baseline/compare.py --allow tests/baseline/allowed.txt $(BASELINE) target/baseline-now.json

clean: ## build results and demo; keeps what setup fetched
	$(CARGO) clean
	rm -rf demo-out

deb: setup-package build ## target/deb/handloom_VERSION_ARCH.deb for this machine
	cross/deb.sh

cross: ## binary and .deb for aarch64 (Raspberry Pi, Jetson), from an x86-64 Linux; cross/README.md
	cross/build.sh

test-boot: deb ## the .deb on a booted Debian 12: install, work, kills, hang, reboot, upgrade, purge; needs root
	tests/boot/run.sh

test-qemu: build models-int8 ## the arm64 .deb of `make cross` in an arm64 Debian 12 under qemu-user: one clip, reduced precision, numbers compared; needs root
	tests/boot/arm64.sh
	tests/models/int8_arm64.sh
