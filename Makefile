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
test: install-dev ## Install what it needs, run the tests (up to five minutes)
	@$(PY) -m pytest

.PHONY: check
check: install-dev ## Format, lint, types, generated files fresh
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m basedpyright

.PHONY: lock
lock: install-dev ## Renew the pinned requirements
	@sh scripts/lock
