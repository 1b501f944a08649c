# Every target does its own set-up from a bare Debian 12 with Go, Python 3.11 and make.
# The tools' cache (Go builds, node images, the CPU engine) lies outside the clone; a cold one only costs time.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE ?= $(or $(SLM_CACHE),$(HOME)/.cache/slm-operator)
UV := "$(CACHE)/uv/bin/uv"
RUN := .venv/bin/
# Thousands of modules are imported again and again: half of what a run of the unit tests takes without bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env check test record demo generate cluster-up cluster-down sbom krew image release
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

env: ## a .venv with the packages, their commands and the test tools
	@test -x $(UV) || python3 -m venv "$(CACHE)/uv" || { apt-get update -qq && apt-get install -qqy python3-venv && python3 -m venv "$(CACHE)/uv"; }
	@test -x $(UV) || "$(CACHE)/uv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes --requirement images/operator/build-requirements.txt
	@$(UV) sync --quiet --frozen --python python3

check: env ## ruff, types, import contracts, unit tests (one to three minutes), and which records are stale
	$(RUN)ruff format --check .
	$(RUN)ruff check .
	$(RUN)mypy
	$(RUN)lint-imports --verbose
	$(RUN)pytest -q -n auto -m "not control_plane and not kind and not vllm and not slow"
	@$(RUN)python -m benchmarks.records --stale

test: env ## everything, in three lanes, to the end whatever fails; STAGES="check kind" runs only these
	@$(RUN)python -m tests.suite $(STAGES)

# `make record many` runs the record called many, so that name must not be taken for a target.
ifeq (record,$(firstword $(MAKECMDGOALS)))
NAME ?= $(word 2,$(MAKECMDGOALS))
$(eval $(NAME):;@:)
endif
record: env ## a run too long for `make test`, by name, kept with its commit: make record seeds; no name lists them
	@$(RUN)python -m benchmarks.records $(NAME)

generate: env ## CRDs, chart extracts and golden files, from their sources
	$(RUN)python -m hack.generate
	$(RUN)python -m hack.plain_manifests

cluster-up: env ## a kind cluster with a stand-in GPU node, left running
	$(RUN)python -m tests.testbed up

cluster-down: env ## remove what cluster-up made
	$(RUN)python -m tests.testbed down

demo: env ## from one kubectl apply to an answer, every step shown
	$(RUN)python -m tests.testbed.demo

sbom: env ## dist/sbom.cdx.json: every package of the operator's image, with licences
	@UV=$(UV) $(RUN)python -m hack.sbom

krew: env ## dist/slm.yaml and its archive: kubectl slm for krew; say RELEASES=URL
	$(RUN)python -m hack.krew --releases "$(or $(RELEASES),$(error say where releases are: make krew RELEASES=URL))"

image: ## the operator's image for a release, on a base by digest: say TAG=NAME PYTHON=python:3.11-slim-bookworm@sha256:...
	@[[ "$(TAG)" && "$(PYTHON)" =~ ^[^@]+@sha256:[0-9a-f]{64}$$ ]] || { echo "say TAG=REGISTRY/slm-operator:VERSION and PYTHON=python:3.11-slim-bookworm@sha256:DIGEST, as printed by: docker buildx imagetools inspect python:3.11-slim-bookworm" >&2; exit 2; }
	docker build --build-arg "PYTHON=$(PYTHON)" --file images/operator/Dockerfile --tag "$(TAG)" .

release: env ## build, sign and push a release: say REGISTRY, RELEASES, PYTHON, SIGN_KEY, CHART_KEYRING and CHART_KEY
	@UV=$(UV) $(RUN)python -m hack.release
