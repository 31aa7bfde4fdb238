# How the project is run, tested, checked and measured. `make` alone lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
NODE_MODULES := local/azurite/node_modules
# Half of the tests wait for brokers and databases most of their time: twice the cores.
PYTEST_WORKERS ?= 4
# `make simulate`: how many seeds, and the first of them.
SEEDS ?= 100
SEED ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run demo test simulate lint fix bench soak lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.requirements $(BIN)/kpax $(NODE_MODULES)/.installed ## Make the environment (the others call it)

run: setup ## Start the local stack, play the demo journey, stay up until Ctrl-C
	@$(BIN)/kpax up --demo

demo: setup ## Play the journey on a throw-away home; exit 0 only if every step held
	@scripts/demo

test: setup ## Run all tests but the long campaigns
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile -m "not soak"

soak: setup ## Run the long campaigns
	@$(BIN)/python -m pytest -m soak --timeout 3600

simulate: setup ## Play seeded days of the whole app: SEEDS=n [SEED=k]
	@$(BIN)/python -m tests.simworld.seeds --seeds $(SEEDS) --seed $(SEED)

lint: setup ## Check style, format, types, the doors between rooms, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright
	@$(BIN)/python -m geo_router.rulebook.compile --check
	@$(BIN)/python -m scripts.schemas --check
	@$(BIN)/python -m scripts.lifecycle --check
	@$(BIN)/python -m local.resource_manager.supported --check

fix: setup ## Repair what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup $(VENV)/.requirements-bench ## Measure the figures of docs/benchmarks.md
	@$(BIN)/python -m bench

bench-backup: setup ## Compare the backup engine with restic, borg and plain pipes
	@$(BIN)/python -m bench.engine $(BENCH_BACKUP)

lock: setup ## Compile the hashed requirements from pyproject.toml
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --python-version 3.13 pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --python-version 3.13 --extra dev -c requirements.txt \
		pyproject.toml -o requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --python-version 3.13 --extra bench -c requirements-dev.txt \
		pyproject.toml -o requirements-bench.txt

clean: ## Stop the stack, delete the environment and the caches (the state in .kpax stays)
	@if [ -x $(BIN)/kpax ]; then $(BIN)/kpax down; fi
	rm -rf $(VENV) $(NODE_MODULES) .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written when its step is complete: an interrupted one runs again.
$(VENV)/.python: .python-version scripts/find-python
	@python=$$(scripts/find-python) && echo "Making $(VENV) with $$python" \
		&& "$$python" -m venv $(VENV) && touch $@

$(VENV)/.requirements: requirements-dev.txt $(VENV)/.python
	@echo "Installing the hashed requirements"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt && touch $@

# What is only measured beside ours. Nothing of requirements-dev.txt changes: it constrains this.
$(VENV)/.requirements-bench: requirements-bench.txt $(VENV)/.requirements
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-bench.txt && touch $@

# The project itself is not installed: a .pth file puts its folder on the path.
$(BIN)/kpax: $(VENV)/.python
	@pwd > "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/kpax.pth"
	@printf '#!/bin/sh\nexec "%s" -P -m kpax "$$@"\n' "$(CURDIR)/$(BIN)/python" > $@ && chmod +x $@

$(NODE_MODULES)/.installed: local/azurite/package-lock.json $(VENV)/.requirements | $(BIN)/kpax
	@echo "Installing the pinned npm package"
	@$(BIN)/python -m local.azurite.install && touch $@
