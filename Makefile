# Targets that need Python create .venv from the tested versions in constraints.txt, once.
# PYTHON picks the interpreter; CONSTRAINTS= (empty) takes the newest allowed versions instead of the tested ones.
# EXTRAS=dev leaves Ray out, which only --engine ray needs.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev,ray
PROFILE ?=
SEEDS ?=
DATA_DIR ?=
RESULTS_DIR ?= results
WANDB ?=
ARGS ?=

BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
STAMP := .venv/installed
OPTIONS = $(if $(PROFILE),--profile $(PROFILE)) $(if $(SEEDS),--seeds $(SEEDS)) \
	$(if $(DATA_DIR),--data-dir "$(DATA_DIR)") --results-dir "$(RESULTS_DIR)" $(ARGS)
TRACKING = $(if $(WANDB),--wandb $(WANDB))
# an experiment on the digits and, with DATA_DIR, on CIFAR-10
ON_BOTH = status=0; $(BIN)/python -m benchmark run $(1)-digits $(OPTIONS) $(TRACKING) || status=$$?; \
	$(if $(DATA_DIR),$(BIN)/python -m benchmark run $(1)-cifar $(OPTIONS) $(TRACKING) || status=$$?;) exit $$status

.DEFAULT_GOAL := help
.PHONY: help setup quickstart reproduce-cifar plan-cifar reproduce-imagenet reproduce-hypothesis reproduce-momentum tables report theory verify-paper speed test test-slow lint format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'
	@echo
	@echo '  Variables: PROFILE=paper|short|quick|smoke SEEDS="0 1 2" DATA_DIR=... RESULTS_DIR=results WANDB=online|offline ARGS="..."'

setup: $(STAMP) ## Create .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[$(EXTRAS)]'
	@touch $@

quickstart: $(STAMP) ## Train every structure on scikit-learn's digits: minutes on two CPU cores
	$(BIN)/python -m benchmark run quickstart $(OPTIONS) $(TRACKING)

reproduce-cifar: $(STAMP) ## Reproduce the paper's CIFAR table (PROFILE=short for a CPU)
	$(BIN)/python -m benchmark run cifar $(OPTIONS) $(TRACKING)

plan-cifar: $(STAMP) ## Show what reproduce-cifar will run and how long it will take
	$(BIN)/python -m benchmark plan cifar $(OPTIONS)

reproduce-imagenet: $(STAMP) ## Reproduce the ImageNet table from DATA_DIR=..., or train on any image folder there
	$(BIN)/python -m benchmark run imagenet $(OPTIONS) $(TRACKING)

tables: $(STAMP) ## Remake the CIFAR table and its plots from the records
	$(BIN)/python -m benchmark tables cifar --results-dir "$(RESULTS_DIR)" $(ARGS)

report: $(STAMP) ## Make results/report.html: tables, plots, every run and what it ran on, in one page
	$(BIN)/python -m benchmark report --results-dir "$(RESULTS_DIR)" $(ARGS)

reproduce-hypothesis: $(STAMP) ## Does a faster algorithm give a better structure? Digits; with DATA_DIR=... CIFAR-10 too
	$(call ON_BOTH,hypothesis)

reproduce-momentum: $(STAMP) ## How much momentum does a network want? Digits; with DATA_DIR=... CIFAR-10 too
	$(call ON_BOTH,momentum)

theory: $(STAMP) ## Measure how fast each method's network converges on f, beside what is proven
	$(BIN)/python -m benchmark theory --results-dir "$(RESULTS_DIR)" $(ARGS)

verify-paper: $(STAMP) ## Look for the published numbers in the paper's PDF (ARGS="--pdf FILE" without network)
	$(BIN)/python -m benchmark verify-paper $(ARGS)

speed: $(STAMP) ## Measure training steps: ours, the usual loop, a bare loop; what a structure costs (a quiet machine)
	$(BIN)/python -m benchmark speed --results-dir "$(RESULTS_DIR)" $(ARGS)

test: $(STAMP) lint ## Lint, check the import rules and run the fast tests
	$(PYTEST)

test-slow: $(STAMP) ## Run the slow tests
	$(PYTEST) -m slow

lint: $(STAMP) ## ruff and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and caches; results stay
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache *.egg-info
