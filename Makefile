.DEFAULT_GOAL := help
PORT ?= 8000
PY := .venv/bin/python
export PYTHON

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: run
run: ## Install what it needs, start everything on this machine, print the URL (PORT=8000)
	@sh scripts/install local
	@exec $(PY) -m local.server --port $(PORT)

.PHONY: install-dev
install-dev:
	@sh scripts/install local dev

.PHONY: test
test: install-dev ## Install what it needs, run the tests (under five minutes)
	@$(PY) -m pytest -m "not slow"

.PHONY: test-all
test-all: install-dev ## The same and the slow ones: a real browser, a real Vercel build
	@$(PY) -m pytest

.PHONY: check
check: install-dev ## Format, lint, types, generated files and pins fresh
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m basedpyright
	@$(PY) scripts/generate.py --check
	@sh scripts/lock --check

.PHONY: generate
generate: install-dev ## Renew .env.example and the README's tables
	@$(PY) scripts/generate.py

.PHONY: doctor
doctor: ## Say what is on, off, missing or malformed, by variable name
	@sh scripts/install local
	@$(PY) -m local.report

.PHONY: lock
lock: install-dev ## Upgrade the pinned requirements
	@sh scripts/lock

.PHONY: vercel-build
vercel-build: install-dev ## Build for Vercel without an account, in a copy, and call what was built (needs Node)
	@$(PY) scripts/vercel_build.py

.PHONY: bench
bench: install-dev ## Measure what the handler adds, per call, per chunk and at import (90 s)
	@$(PY) -m benchmarks

.PHONY: bench-router
bench-router: install-dev ## The same and more beside LiteLLM and any-llm (10 min; WRITE=1 renews docs/benchmarks.md)
	@$(PY) -m benchmarks.router $(if $(WRITE),--write) $(ONLY)
