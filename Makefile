# Every target installs what it needs; a second run finds it in place. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
# A first run installs Python's packages and the front end's at the same time.
MAKEFLAGS += $(if $(filter test demo setup,$(MAKECMDGOALS)),-j2)
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PYTHON_BIN := $(VENV)/bin/python
STATIC := itx_notebook/widgets/static
BUNDLE_MAX_BYTES := 50000
# Jupyter refuses to run as root unless told; everybody else should not be told.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

export PATH := $(CURDIR)/$(VENV)/node/bin:$(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_REQUIRE_VIRTUALENV := 0

PYTHON_READY := $(VENV)/.python-ready
INSTALLED := $(VENV)/.installed
NODE_READY := $(VENV)/.node-ready
JS_INSTALLED := js/node_modules/.installed
PEERS := tests/capnweb/node
PEERS_INSTALLED := $(PEERS)/node_modules/.installed
OLD_KERNEL := $(VENV)/ipykernel6
OLD_KERNEL_INSTALLED := $(OLD_KERNEL)/.installed
VSCODE := tests/browser/vscode
VSCODE_INSTALLED := $(VSCODE)/node_modules/.installed
BIOME := ../../../js/node_modules/.bin/biome
BUNDLE := $(STATIC)/tree.js
JS_CONFIG := js/package.json js/package-lock.json js/.npmrc
JS_SOURCES := $(shell find js/src -type f 2>/dev/null) js/build.mjs js/tsconfig.json

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## open the quickstart on this repository's history in JupyterLab (CHECK=1: headless, into build/)
	$(PYTHON_BIN) scripts/demo.py $(if $(CHECK),--check)

.PHONY: test
test: setup ## run everything a change must pass and report each stage
	@scripts/run_stages.sh

.PHONY: lint
lint: lint-python lint-types lint-imports lint-js lint-bundle ## check style, types, layers and bundle size

.PHONY: bench
bench: setup ## run a benchmark: NAME=engine [QUICK=1] [JSON=file]; without NAME, list them
ifdef NAME
	$(PYTHON_BIN) tests/benchmarks/$(NAME).py $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON))
else
	@ls tests/benchmarks/*.py | sed -E 's|.*/([a-z0-9_]+)\.py|  make bench NAME=\1|' | grep -v '=_'
endif

.PHONY: screenshots
screenshots: setup ## photograph the tree in eight states into build/screenshots [DOCS=1: four into docs/images too]
	$(PYTHON_BIN) scripts/screenshots.py $(if $(DOCS),--docs)

.PHONY: fuzz
fuzz: $(INSTALLED) ## attack Cap'n Web's machine: [FRAMES=1000000] [SEED=1], or ATHERIS=1 [ARGS=-max_total_time=60]
ifdef ATHERIS
	$(PYTHON_BIN) -m pip install -qq --only-binary :all: atheris
	$(PYTHON_BIN) -m tests.capnweb.fuzz --atheris $(ARGS)
else
	$(PYTHON_BIN) -m tests.capnweb.fuzz --frames $(or $(FRAMES),1000000) --seed $(or $(SEED),1)
endif

.PHONY: docs
docs: setup ## build the documentation into build/docs; a warning is an error
	@mkdir -p build
	sphinx-build -W --keep-going -q -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

.PHONY: notebooks
notebooks: setup ## run the notebooks and store what they show
	$(PYTHON_BIN) scripts/execute_notebooks.py

.PHONY: lab
lab: setup ## open JupyterLab on notebooks/
	jupyter lab $(ALLOW_ROOT) notebooks

.PHONY: format
format: $(INSTALLED) $(JS_INSTALLED) ## rewrite the sources in the house format
	ruff check --quiet --fix-only .
	ruff format --quiet .
	cd js && npm run --silent format
	cd $(PEERS) && $(BIOME) check --write
	cd $(VSCODE) && $(BIOME) check --write

.PHONY: build
build: $(BUNDLE) ## build the front end's bundle from js/

.PHONY: setup
setup: $(INSTALLED) $(BUNDLE) $(PEERS_INSTALLED) ## install everything and build the bundle, without running anything

.PHONY: lock
lock: ## move every pinned Python package to its newest version
	scripts/lock.sh "$$(scripts/find_python.sh)"

.PHONY: clean
clean: ## delete what was built and installed
	rm -rf build dist $(VENV) js/node_modules $(PEERS)/node_modules $(VSCODE)/node_modules $(STATIC) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stages of `make test`, each of which runs alone too.

.PHONY: lint-python lint-types lint-imports lint-js lint-bundle
lint-python: $(INSTALLED)
	ruff check --quiet .
	ruff format --quiet --check .

lint-types: $(INSTALLED)
	mypy --no-error-summary itx_notebook tests $(wildcard scripts/*.py)

lint-imports: $(INSTALLED)
	lint-imports --no-logo

lint-js: $(JS_INSTALLED)
	cd js && npm run --silent lint && npm run --silent check
	cd $(PEERS) && $(BIOME) ci
	cd $(VSCODE) && $(BIOME) ci

# The notebook file stores the module once per widget, and anywidget goes deaf if it is not ready in two seconds.
lint-bundle: $(BUNDLE)
	@bytes=$$(cat $(STATIC)/* | wc -c); \
	echo "bundle: $$bytes of $(BUNDLE_MAX_BYTES) bytes"; \
	[[ $$bytes -le $(BUNDLE_MAX_BYTES) ]] || { echo "The bundle is too large." >&2; exit 1; }

.PHONY: test-unit
test-unit: setup ## run the Python tests that need no browser
	pytest

.PHONY: test-js
test-js: $(JS_INSTALLED) ## run the front end's own tests
	cd js && npm run --silent test

.PHONY: test-notebooks
test-notebooks: setup ## run every notebook twice on one store, in both orders, and compare the outputs
	scripts/check_notebooks.sh

.PHONY: test-browser
test-browser: setup $(OLD_KERNEL_INSTALLED) $(VSCODE_INSTALLED) ## drive each host in Chromium, installing one if there is none
	CHROMIUM=$$(scripts/find_chromium.sh) pytest -m browser tests/browser

.PHONY: test-wheel
test-wheel: $(INSTALLED) $(NODE_READY) ## build the wheel and check it from a clean environment outside the checkout
	scripts/check_wheel.sh

# What the targets stand on: a stamp file each, so that a second run finds the work done.

$(PYTHON_READY): constraints.txt
	python=$$(scripts/find_python.sh) && "$$python" -m venv $(VENV)
	$(PYTHON_BIN) -m pip install -qq --only-binary :all: -c constraints.txt pip
	$(PYTHON_BIN) -m pip install -qq --only-binary :all: -c constraints.txt --group build
	@touch $@

# forbiddenfruit, pure Python, has no wheel. Everything else must have one: a user of make needs no compiler.
$(INSTALLED): $(PYTHON_READY) pyproject.toml
	@echo "Installing the Python environment into $(VENV) ..."
	SKIP_JUPYTER_BUILDER=1 $(PYTHON_BIN) -m pip install -qq --only-binary :all: --no-binary forbiddenfruit \
	  -c constraints.txt --no-build-isolation -e . --group dev
	@touch $@

$(NODE_READY): $(PYTHON_READY) scripts/install_node.sh
	scripts/install_node.sh $(PYTHON_BIN) $(VENV)/node
	@touch $@

$(JS_INSTALLED): $(JS_CONFIG) | $(NODE_READY)
	cd js && npm ci --silent
	@touch $@

# The original Cap'n Web in two versions, for the tests of ours to talk to.
$(PEERS_INSTALLED): $(PEERS)/package.json $(PEERS)/package-lock.json $(PEERS)/.npmrc | $(NODE_READY)
	cd $(PEERS) && npm ci --silent
	@touch $@

# VS Code's widget manager, for a page that stands for VS Code.
$(VSCODE_INSTALLED): $(VSCODE)/package.json $(VSCODE)/package-lock.json $(VSCODE)/.npmrc | $(NODE_READY)
	cd $(VSCODE) && npm ci --silent
	@touch $@

# Only what differs from the environment, to be put in front of it.
$(OLD_KERNEL_INSTALLED): $(PYTHON_READY) pyproject.toml
	rm -rf $(OLD_KERNEL)
	$(PYTHON_BIN) -m pip install -qq --only-binary :all: --no-deps --target $(OLD_KERNEL) --group kernel6
	@touch $@

$(BUNDLE): $(JS_SOURCES) $(JS_INSTALLED)
	cd js && npm run --silent build
