# Every target does its own set-up from a bare Debian 12 with Go, Python 3.11 and make.
# The tools' cache (Go builds, node images, the CPU engine) lies outside the clone; a cold one only costs time.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE ?= $(or $(SLM_CACHE),$(HOME)/.cache/slm-operator)
UV := $(CACHE)/uv/bin/uv
RUN := .venv/bin/

.PHONY: help env check test test-operator test-rest demo generate cluster-up cluster-down e2e-kind sbom krew
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(UV):
	@python3 -m venv $(CACHE)/uv || { apt-get update -qq && apt-get install -qqy python3-venv && python3 -m venv $(CACHE)/uv; }
	@$(CACHE)/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.8

env: $(UV) ## a .venv with the packages, their commands and the test tools
	@$(UV) sync --quiet --frozen --python python3

check: env ## ruff, types, import contracts, unit tests (under 90 s)
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports --verbose
	$(RUN)pytest -q -m "not control_plane and not kind and not vllm and not slow"

test: check ## everything: measurements alone, then the operator on its node beside all the rest
	$(RUN)python -m tests.testbed.gotools >/dev/null
	$(RUN)pytest -q tests/vllm
	@$(MAKE) --no-print-directory --jobs=2 test-operator test-rest

test-operator: env
	$(RUN)pytest -q --durations=12 tests/e2e

test-rest: env
	$(RUN)pytest -q --durations=12 -m "control_plane or kind or slow" --ignore=tests/e2e --ignore=tests/vllm

generate: env ## CRDs, chart extracts and golden files, from their sources
	$(RUN)python hack/generate.py
	$(RUN)python hack/plain_manifests.py

cluster-up: env ## a kind cluster with a stand-in GPU node, left running
	$(RUN)python -m tests.testbed up

cluster-down: env ## remove what cluster-up made
	$(RUN)python -m tests.testbed down

demo: env ## from one kubectl apply to an answer, every step shown
	$(RUN)python hack/demo.py

e2e-kind: env ## the end-to-end tests on kind; with a Docker engine, the public node image
	$(RUN)pytest -q -m kind

sbom: env ## dist/sbom.cdx.json: every package of the operator's image, with licences
	@UV=$(UV) $(RUN)python hack/sbom.py

krew: env ## dist/slm.yaml and its archive: kubectl slm for krew; say RELEASES=URL
	$(RUN)python hack/krew.py --releases "$(or $(RELEASES),$(error say where releases are: make krew RELEASES=URL))"
