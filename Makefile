# The targets of this repository. .venv and .venv-local are created, and updated when their requirements change.

BIN := .venv/bin
READY := .venv/up-to-date
needs = $(foreach name,$(1),$(if $($(name)),,$(error $(name) is required: make $@ $(foreach each,$(1),$(each)=...))))

.DEFAULT_GOAL := help
export PARAMS
# Packages are installed without bytecode: Python writes that of each module at its first import.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo local install test check requirements bench soak fuzz browser proofs verify package deploy undeploy dist audit clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## run the full lifecycle on a local AWS organization
	@$(BIN)/python -m local.demo
local: $(READY) ## start a local AWS organization and keep it running
	@$(BIN)/python -m local
install: dist ## install the command line into .venv-cli
	@echo "installing it into .venv-cli ..." && $(BIN)/python -m venv .venv-cli && .venv-cli/bin/python -m pip install -qq --disable-pip-version-check --force-reinstall dist/*.whl
	@echo "$$(.venv-cli/bin/rolecall --version) is installed. To use it:" && echo '  export PATH="$(CURDIR)/.venv-cli/bin:$$PATH"'

test: $(READY) ## run the checks and every test, or only those of T=FILE[::TEST]
	@$(if $(T),$(BIN)/pytest -q $(T),.ci/tests)
check: $(READY) ## run the checks, and the tests that take seconds
	@.ci/checks && $(BIN)/pytest -q tests/unit tests/deployment/test_lint.py
requirements: ## compile the requirements with digests: OPTIONS=--upgrade
	@.ci/packages compile $(OPTIONS)

bench: $(READY) ## measure performance in twenty minutes, or OPTIONS=--quick
	@$(BIN)/python -m benchmarks $(OPTIONS)
soak: $(READY) ## inject faults at every call, then try new seeds: MINUTES=60
	@$(call needs,MINUTES)$(BIN)/python -m tests.integration.simulation.soak "$(MINUTES)"
fuzz: .venv/fuzzer ## fuzz inputs (Linux on x86-64): MINUTES=60 TARGETS=rows
	@$(call needs,MINUTES)$(BIN)/python -m tests.integration.fuzzing "$(MINUTES)" $(TARGETS)
browser: $(READY) ## test the report in Chromium, and update its screenshots
	@.ci/require chromium && $(BIN)/pytest -q verify/test_report_in_chromium.py
proofs: $(READY) ## run the checks that need a browser, other tools or minutes
	@.ci/require chromium node && $(BIN)/pytest -q verify
verify: ## run the demo, every test and the proofs in a clean clone
	@.ci/require chromium node
	@clone=$$(mktemp -d) && trap 'rm -rf "$$clone"' EXIT && git clone --quiet . "$$clone" && $(MAKE) --no-print-directory -C "$$clone" demo test proofs

package: $(READY) ## rolecall package: STAGE=dev OUT=build/dev
	@$(call needs,STAGE OUT)$(BIN)/python -m rolecall package "$(STAGE)" --out "$(OUT)"
deploy: $(READY) ## rolecall deploy: STAGE=dev PARAMS="Name=value" OPTIONS=--yes
	@$(call needs,STAGE)$(BIN)/python -m rolecall deploy "$(STAGE)" --bucket "$(BUCKET)" --params "$$PARAMS" $(OPTIONS)
undeploy: $(READY) ## rolecall undeploy: STAGE=dev OPTIONS=--yes
	@$(call needs,STAGE)$(BIN)/python -m rolecall undeploy "$(STAGE)" $(OPTIONS)
dist: $(READY) ## build the wheel and the sdist with the packaged app into dist/
	@echo "building the wheel and the sdist ..." && $(BIN)/python .ci/dist.py dist
audit: .venv/audit ## check the shipped packages for known vulnerabilities, online
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.txt -r requirements-chalice.txt

clean: ## delete everything that make created
	rm -rf .venv .venv-* build dist rolecall/app *.egg-info .chalice/deployments .coverage .cache .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements-dev.txt local/requirements.txt
	@.ci/packages install
	@touch $@
.venv/fuzzer: tests/integration/fuzzing/requirements.txt $(READY)
.venv/audit: .ci/audit.txt $(READY)
.venv/fuzzer .venv/audit:
	@.ci/packages add $<
	@touch $@
