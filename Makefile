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

.PHONY: vsl
vsl: ## Make a sales letter of the sample product (a minute), left in .local/vsl (BRIEF=file.json)
	@sh scripts/install local
	@$(PY) -m local.letter $(if $(BRIEF),--brief $(BRIEF))

.PHONY: install-dev
install-dev:
	@sh scripts/install local dev

.PHONY: test
test: install-dev ## Install what it needs, run the tests (under five minutes)
	@$(PY) -m pytest -n 3 -m "not slow"

.PHONY: test-all
test-all: install-dev ## The same and the slow ones: a real browser, a real Vercel build
	@$(PY) -m pytest -n 3 -m "not slow"
	@$(PY) -m pytest -m slow

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

.PHONY: traffic
traffic: ## Send real requests of 300 made-up users, so that the dashboard has something to tell (under three minutes)
	@sh scripts/install local
	@$(PY) -m local.traffic $(if $(USERS),--users $(USERS))

.PHONY: replay-events
replay-events: install-dev ## Make rows of the events in a log, where they are none yet: FILE=…
	@$(PY) -m scripts.replay_events "$(FILE)"

.PHONY: test-incidents
test-incidents: install-dev ## Twenty races of fifty deliveries, and the longer lives of incidents (fault rows 35 to 41)
	@LIVES=500 $(PY) -m pytest tests/api/test_deploy_webhook.py tests/db/test_incidents.py \
		tests/db/test_incident_life.py tests/lib/incidents

.PHONY: test-kills
test-kills: install-dev ## Kill an instance two hundred times between an answer and its events (fault row 27)
	@KILLS=200 $(PY) -m pytest -k test_fault_27_killed

.PHONY: test-vsl-kills
test-vsl-kills: install-dev ## Kill an instance two hundred times while it makes sales letters (fault row 43; 6 min)
	@KILLS=200 $(PY) -m pytest -s tests/api/test_fault_letters.py -k killed_at_random

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

.PHONY: bench-assets
bench-assets: install-dev ## What a repeat of a paid result costs beyond identity, in time, calls and memory (2 min)
	@$(PY) -m benchmarks.assets

.PHONY: bench-incidents
bench-incidents: install-dev ## Measure the webhook under load with a slow GitHub, and the cron with silent vendors
	@$(PY) -m benchmarks.incidents

.PHONY: bench-dashboard
bench-dashboard: install-dev ## Hold the dashboard's panels to their goals over ten million events (20 min; EVENTS=…)
	@$(PY) -m benchmarks.dashboard $(if $(EVENTS),--events $(EVENTS))

.PHONY: bench-media
bench-media: install-dev ## Measure pictures and speech: side by side, found again, memory, the embedded voice's pace (2 min)
	@$(PY) -m benchmarks.media

.PHONY: bench-router
bench-router: install-dev ## The same and more beside LiteLLM and any-llm (10 min; WRITE=1 renews docs/benchmarks.md)
	@$(PY) -m benchmarks.router $(if $(WRITE),--write) $(ONLY)

.PHONY: bench-vsl
bench-vsl: install-dev ## A whole letter; composing it beside encoding alone and beside moviepy (8 min; WRITE=1, PART=job)
	@$(PY) -m benchmarks.vsl $(if $(WRITE),--write) $(PART)

.PHONY: bench-rollout
bench-rollout: install-dev ## Simulate what the rollout promises (half an hour; WRITE=1 renews docs/rollout-benchmark.md)
	@$(PY) -m benchmarks.rollout $(if $(WRITE),--write) $(ONLY)

.PHONY: bench-rollout-tick
bench-rollout-tick: install-dev ## What a rollout's tick takes after a million events (5 min; EVENTS=…)
	@$(PY) -m benchmarks.rollout_tick $(if $(EVENTS),--events $(EVENTS))
