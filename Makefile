# Two commands on a fresh machine with Python 3.11+: `make demo` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
# the first Python on the path that is new enough; empty when there is none
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
DEMO_OUT ?= demo-out
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
PYTEST_ARGS ?=
TEST_PROCESSES ?= 2
MINUTES ?= 10
QUICK_TESTS := $(patsubst %,tests/test_%.py,allowed_folders atomic checks coverage docs eval_labels format_table geometry \
	images labeling learning lexicon masks negatives overlay points polygons runs selection surround tables text_files \
	tokens vocabulary words_per_image)

# FiftyOne sends no usage statistics
export FIFTYONE_DO_NOT_TRACK ?= true

say = @printf '\n== %s\n' $(1)

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

# --- the virtual environment; stamps make the second time quick, pyproject.toml makes them stale ---

$(VENV)/.created:
	$(call say,"making a virtual environment in $(VENV)")
	@if [ -z "$(PYTHON)" ]; then \
		echo "gem-label needs Python 3.11 or newer: sudo apt-get install python3 python3-venv, or make PYTHON=/path/to/python3" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$(PYTHON) cannot make virtual environments: sudo apt-get install python3-venv, then run make again" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml
	$(call say,"installing gem-label and FiftyOne into $(VENV); the first time brings PyTorch and takes minutes")
	$(BIN)/python -m pip install --quiet -e '.[fiftyone]'
	@$(BIN)/python -m gem_label.doctor --imports
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml
	$(call say,"installing gem-label with what its tests need into $(VENV); the first time brings PyTorch and takes minutes")
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@$(BIN)/python -m gem_label.doctor --imports
	@touch $@ $(VENV)/.installed-demo

# MobileSAM and mongod: both commands answer at once when all is there
define fetch
	$(call say,"fetching MobileSAM's weights and a mongod where they are missing")
	$(BIN)/gem-label models pull mobile_sam
	$(BIN)/python -m gem_label.review.database --ensure
endef

# the tests drive the FiftyOne App in a real browser
define fetch_browser
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
		printf '\n== installing chromium, which the App is tested in\n'; \
		$(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || { \
		echo "the tests need a browser: install chromium and run make test again" >&2; exit 1; }
endef

# --- what people ask for ---

.PHONY: demo
demo: $(VENV)/.installed-demo ## label a dozen demo scenes: COCO file, overlay pictures, FiftyOne dataset
	$(fetch)
	$(call say,"labeling the demo scenes into $(DEMO_OUT)")
	$(BIN)/gem-label demo --out $(DEMO_OUT)

.PHONY: test
test: $(VENV)/.installed-dev ## the whole test suite, in TEST_PROCESSES (2) processes
	$(fetch)
	$(fetch_browser)
	$(call say,"running the tests")
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations 20 $(PYTEST_ARGS)

.PHONY: soak
soak: $(VENV)/.installed-dev ## broken files and review steps at random, for MINUTES (10) minutes, and 1000 decisions in a browser
	$(fetch)
	$(call say,"trying random files and steps for $(MINUTES) minutes")
	$(BIN)/python -m pytest --soak-minutes $(MINUTES) tests/test_mutated_files.py tests/faults/test_mutated_runs.py \
		tests/faults/test_bit_flips.py tests/faults/test_failing_database.py tests/faults/test_power_loss.py tests/test_import_mutations.py \
		tests/test_exchange_sequences.py tests/test_review_endurance.py $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/.installed-dev ## ruff, mypy, import-linter and codespell
	$(call say,"checking style and types")
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy pipelines benchmarks zoo docs/hooks
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

.PHONY: docs
docs: $(VENV)/.installed-dev ## build the documentation into site/; warnings are errors
	$(call say,"building the documentation into site")
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: quick
quick: $(VENV)/.installed-dev ## tests that take under a minute: no weights, no database, no browser
	$(BIN)/python -m pytest -m "not slow" $(QUICK_TESTS) $(PYTEST_ARGS)

.PHONY: panel
panel: $(VENV)/.installed-dev ## build the review panel's JavaScript after its sources changed
	$(call say,"building plugins/gem_label/dist from plugins/review_panel")
	cd plugins/review_panel && PATH="$(abspath $(BIN)):$$PATH" && \
		npm install --no-package-lock --no-audit --no-fund --loglevel=error && npm run check && npm run build

.PHONY: format
format: $(VENV)/.installed-dev ## put the code into ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: install
install: $(VENV)/.installed-demo ## the virtual environment with gem-label and FiftyOne, no more

.PHONY: clean
clean: ## remove what was made here, but for the cached weights
	rm -rf $(VENV) $(DEMO_OUT) build dist site plugins/review_panel/node_modules *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
