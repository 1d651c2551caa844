# attar's tasks. `make` alone lists them; every target installs what it needs.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.attar-setup
# Tests never download; one thread a process, because two processes run them.
TEST_ENV = HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv and install attar with the pinned versions (done once)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (the first time this takes minutes) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,demo]'
	@touch $(STAMP)

demo: $(STAMP) ## teacher, two students and a report page, from bundled reviews (minutes)
	@$(BIN)/attar demo --out runs/demo

test: $(STAMP) ## fast tests
	@$(TEST_ENV) $(BIN)/python -m pytest -n 2

test-all: $(STAMP) ## all tests, the slow ones too
	@$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m ''

check: $(STAMP) ## style, types and import rules
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/mypy || status=1; \
	$(BIN)/lint-imports || status=1; \
	exit $$status

fix: $(STAMP) ## mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: ## list the benchmark scripts
	@for f in benchmarks/*.py; do \
		grep -qs __main__ "$$f" || continue; \
		printf '  %-40s %s\n' "$$f" "$$(sed -n '1s/^"""//;1s/"""$$//;1p' "$$f")"; \
	done

size: ## lines per file
	@find attar -name '*.py' -size +0 -exec wc -l {} + | sort -n

clean: ## remove caches and builds; .venv and runs stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find attar tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup demo test test-all check fix bench size clean
