# make demo    a tenant on a real Kubernetes, from nothing: replicated, killed, failed over, scaled (FOLDER=documents)
# make test    everything a change must pass: checks, unit and property tests, API semantics, core stories
# make e2e     every story, on the real cluster
# make check   format, lints, dependencies, spelling, house rules, CRDs and chart up to date; never writes
# make fix     what of that can be mended by machine
# make soak    the simulation over fresh seeds for MINUTES=10, the model in larger bounds
# make bench   writes beside etcd, JetStream, Redis, rqlite; catch-up, failover, memory: docs/benchmarks (SECONDS_EACH=10)
# make samples the README's samples of output, from the last run of the stories
# make image   the images of node and operator
# make clean-cluster   removes the local cluster
#
# With KUBECONFIG set, demo, test and e2e use that cluster instead of bringing up their own.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# Outside the checkout, so that RocksDB is compiled once per machine and not once per clone.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/percolate/target
$(shell scripts/claim "$(CARGO_TARGET_DIR)")
# A clang++ that parses RocksDB's headers once.
export PATH := $(CURDIR)/scripts/compiler:$(PATH)

STAGE := scripts/stage
E2E := $(CARGO_TARGET_DIR)/debug/percolate-e2e

# Integration tests that need the cluster are stories, e2e/tests/story_*.rs; all others run without.
TEST_FILES := $(wildcard */tests/*.rs */*/tests/*.rs)
names = $(sort $(basename $(notdir $(1))))
STORIES := $(call names,$(filter e2e/tests/story_%.rs,$(TEST_FILES)))
CLUSTERLESS := $(filter-out $(STORIES),$(call names,$(TEST_FILES)))
# What the API server makes of manifests, good and bad.
API := story_bad_manifests
# The stories that every change must pass.
CORE := story_lifecycle story_write_path story_failover story_scaling story_rolling_update story_volume_lost story_deletion

# How long each database is measured, with many clients and with one.
SECONDS_EACH ?= 10

# Always the whole workspace: another selection of packages would resolve other features and compile again.
BUILD := cargo build --workspace --all-targets --locked
TEST := cargo test --workspace --locked
tests = $(addprefix --test ,$(1))
# One cluster, one story at a time: $(call serially,LABEL,TESTS)
serially = @$(STAGE) "$(1)" $(TEST) --no-fail-fast $(call tests,$(2)) -- --test-threads=1 --nocapture

MINUTES ?= 10

.PHONY: help demo test e2e bench check fix samples image setup build unit cluster api stories soak clean-cluster
.PHONY: check-format check-chart check-house check-generated check-lints check-dependencies check-spelling

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: setup
	@$(STAGE) "demo 1/2: build" $(BUILD)
	@$(STAGE) "demo 2/2: a tenant's life" $(E2E) demo $(FOLDER)

test: setup check build unit cluster api stories
	@echo; echo "make test: all passed. The cluster is still up: 'make clean-cluster' removes it."

e2e: setup build cluster
	$(call serially,every story on the real cluster,$(STORIES))

# Outside of `make test`: figures are for people to judge, on a machine that does nothing else.
bench: setup build
	@$(STAGE) "bench: Percolate, its peers, its faults" $(E2E) bench --seconds $(SECONDS_EACH) --write docs/benchmarks

setup:
	@$(STAGE) "setup: Rust, Go, Debian packages" scripts/setup

build:
	@$(STAGE) "build: everything, once" $(BUILD)

unit:
	@$(STAGE) "unit and property tests" $(TEST) --no-fail-fast --lib --bins $(call tests,$(CLUSTERLESS))

# A quarter of the time for the model, which by default is enough for all of it; the rest for fresh seeds.
soak:
	@PERCOLATE_SOAK_SECONDS=$$(($(MINUTES) * 15)) $(STAGE) "soak 1/2: the model in larger bounds" \
		$(TEST) --test model -- --ignored --nocapture larger_bounds
	@PERCOLATE_SOAK_SECONDS=$$(($(MINUTES) * 45)) $(STAGE) "soak 2/2: the simulation over fresh seeds" \
		$(TEST) --test simulation -- --ignored --nocapture soaks_in_fresh_seeds

cluster:
	@$(STAGE) "cluster: a Kubernetes of three nodes" $(E2E) cluster up --nodes 3

api:
	$(call serially,API semantics on the real API server,$(API))

stories:
	$(call serially,core stories on the real cluster,$(CORE))

image: build
	@$(STAGE) "images of node and operator" $(E2E) image build --no-compile

clean-cluster: build
	@$(STAGE) "cluster: removed" $(E2E) cluster down

## Checks, cheapest first. None of them writes to the checkout.

check: check-format check-chart check-house check-generated check-lints check-dependencies check-spelling

check-format:
	@$(STAGE) "check: format (rustfmt)" cargo fmt --all --check

check-chart:
	@$(STAGE) "check: chart (helm lint, render, schema)" scripts/chart

check-house:
	@$(STAGE) "check: rules of the house" $(TEST) --quiet --test tidy

check-generated:
	@$(STAGE) "check: CRDs in the chart, conditions in the documents" $(TEST) --quiet --test generated

check-lints:
	@$(STAGE) "check: lints (clippy)" cargo clippy --workspace --all-targets --locked -- -D warnings

check-dependencies:
	@$(STAGE) "check: dependencies (cargo-deny)" scripts/dependencies

check-spelling:
	@$(STAGE) "check: spelling (codespell)" scripts/spelling

samples:
	scripts/samples

fix:
	cargo clippy --workspace --all-targets --locked --fix --allow-dirty --allow-staged
	cargo fmt --all
	PERCOLATE_FIX=1 $(TEST) --quiet --test generated
	scripts/spelling --write-changes
