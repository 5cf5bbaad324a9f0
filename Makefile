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

.PHONY: replay-events
replay-events: install-dev ## Make rows of the events in a log, where they are none yet: FILE=…
	@$(PY) -m scripts.replay_events "$(FILE)"

.PHONY: test-kills
test-kills: install-dev ## Kill an instance two hundred times between an answer and its events (fault row 27)
	@KILLS=200 $(PY) -m pytest -k test_fault_27_killed

.PHONY: lock
lock: install-dev ## Upgrade the pinned requirements
	@sh scripts/lock

.PHONY: vercel-build
vercel-build: install-dev ## Build for Vercel without an account, in a copy, and call what was built (needs Node)
	@$(PY) scripts/vercel_build.py

.PHONY: db-lint
db-lint: install-dev ## Supabase's own lints over the migrations, without Docker (needs Node)
	@$(PY) -m scripts.db_lint

.PHONY: example-nextjs
example-nextjs: install-dev ## Build examples/nextjs and drive it in a real browser (needs Node and Chromium)
	@REQUIRE_NODE=1 REQUIRE_BROWSER=1 $(PY) -m pytest tests/browser/test_nextjs_example.py

.PHONY: bench
bench: install-dev ## Measure what the handler adds, per call, per chunk and at import (90 s)
	@$(PY) -m benchmarks

.PHONY: bench-router
bench-router: install-dev ## The same and more beside LiteLLM and any-llm (10 min; WRITE=1 renews docs/benchmarks.md)
	@$(PY) -m benchmarks.router $(if $(WRITE),--write) $(ONLY)

.PHONY: bench-rollout
bench-rollout: install-dev ## Simulate what the rollout promises (half an hour; WRITE=1 renews docs/rollout-benchmark.md)
	@$(PY) -m benchmarks.rollout $(if $(WRITE),--write) $(ONLY)
