# tidemill: the few commands that build, show, test and measure it. `make` alone lists them.

# Where `make bench` and `make nexmark-check` read their events, and how many `make nexmark-data` writes.
NEXMARK_DATA ?= $(TARGET)/nexmark
EVENTS ?= 10000000
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60
# How often `make torture` kills the command, and cuts its disk's power.
KILLS ?= 200
POWER_CUTS ?= 30
# More for bench/run.py, such as BENCH_ARGS="--queries q0,q15 --pairs 5".
BENCH_ARGS ?=
# Where Flink's jars are, or are put.
FLINK ?= $(TARGET)/flink

TARGET := $(or $(CARGO_TARGET_DIR),target)
TIDEMILL := $(TARGET)/release/tidemill
S3_SERVER := $(TARGET)/s3s/bin/s3s-fs
H2SPEC := $(TARGET)/h2spec/h2spec
VENV := $(TARGET)/venv
PYTHON := PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: release
release: ## build the release binary
	cargo build --release --locked -p tidemill

.PHONY: demo
demo: release ## run examples/flights.sql: a year of flights, answered as tables
	$(TIDEMILL) run examples/flights.sql

.PHONY: test
test: ## run every test
	cargo test --workspace --locked

.PHONY: torture
torture: ## kill the command 200 times under load, cut a disk's power 30 times, break and fill disks
	TIDEMILL_TORTURE=$(KILLS) TIDEMILL_POWER_CUTS=$(POWER_CUTS) cargo test --locked --workspace --test torture -- --nocapture --test-threads=1

.PHONY: lint
lint: ## check formatting and lints
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: loom
loom: ## check the ring between processes and the pool over all orders of their loads and stores
	CARGO_TARGET_DIR=$(TARGET)/loom RUSTFLAGS="--cfg loom" \
		cargo test --locked --release -p tidemill-journal --test loom_ring --test loom_pool

.PHONY: bench
bench: release venv nexmark-data ## measure beside DuckDB, Flink and arrow-json, into bench/RESULTS.md (needs Java 17)
	tools/flink-libs.sh $(FLINK)
	$(PYTHON) bench/decoder.py --write
	$(PYTHON) bench/run.py --tidemill $(TIDEMILL) --data $(NEXMARK_DATA) --flink $(FLINK) --scratch $(TARGET) --write $(BENCH_ARGS)
	$(PYTHON) bench/one_row.py --tidemill $(TIDEMILL) --write

.PHONY: bench-scaling
bench-scaling: release venv nexmark-data ## measure growth, lanes, skew, memory, the first row and readers, into bench/RESULTS.md
	tools/flink-libs.sh $(FLINK)
	$(PYTHON) bench/scaling.py --tidemill $(TIDEMILL) --data $(NEXMARK_DATA) --flink $(FLINK) --scratch $(TARGET) --write $(BENCH_ARGS)
	$(PYTHON) bench/readers.py --tidemill $(TIDEMILL) --data $(NEXMARK_DATA) --scratch $(TARGET) --write

.PHONY: bench-gateway
bench-gateway: release venv ## measure the doors beside hyper, axum and Go, into bench/RESULTS.md (needs wrk, h2load, Go)
	cargo build --release --locked -p tidemill-gateway --example intake
	CARGO_TARGET_DIR=$(abspath $(TARGET))/gateway-peers cargo build --release --locked --manifest-path bench/gateway/peers/Cargo.toml
	cd bench/gateway/go && go build -o $(abspath $(TARGET))/gateway-peers/go/ ./nethttp ./fast
	$(PYTHON) bench/gateway.py --write $(BENCH_ARGS)
	$(PYTHON) bench/grpc_stream.py --tidemill $(TIDEMILL) --write

.PHONY: nexmark-check
nexmark-check: release venv ## check the Nexmark answers of 1,000,000 events against DuckDB
	$(MAKE) nexmark-data NEXMARK_DATA=$(TARGET)/nexmark-1m EVENTS=1000000
	$(PYTHON) bench/check.py --tidemill $(TIDEMILL) --data $(TARGET)/nexmark-1m

.PHONY: nexmark-data
nexmark-data: $(NEXMARK_DATA)/.complete ## write the Nexmark events as NDJSON (3 GB for 10,000,000)

$(NEXMARK_DATA)/.complete: | release
	bench/generate.sh $(TIDEMILL) $(NEXMARK_DATA) $(EVENTS)
	touch $@

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZ_SECONDS
	fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: s3-check
s3-check: $(S3_SERVER) ## check snapshots against a real server that speaks S3
	TIDEMILL_S3_SERVER=$(abspath $(S3_SERVER)) cargo test -p tidemill-state --locked --test s3 -- --include-ignored

$(S3_SERVER):
	cargo install --quiet --locked --debug --root $(TARGET)/s3s --features binary --version 0.14.1 s3s-fs

.PHONY: h2spec
h2spec: $(H2SPEC) ## check HTTP/2 against a public suite (needs Go)
	TIDEMILL_H2SPEC=$(abspath $(H2SPEC)) cargo test -p tidemill-gateway --locked --test doors h2spec -- --include-ignored --nocapture

$(H2SPEC):
	GOBIN=$(abspath $(dir $(H2SPEC))) go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible

.PHONY: flink-record
flink-record: ## record Apache Flink's answers into tests/flink (needs Java 17)
	tools/flink-record/record.sh

.PHONY: venv
venv: $(VENV)/.complete

$(VENV)/.complete: bench/peers/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: clean
clean: ## remove what was built, downloaded and generated
	cargo clean
