# Everything one does with Rolecall. The virtual environments are made where they are missing or out of date.

PYTHON ?= $(firstword $(foreach each,python3 python3.13 python3.12 python3.11 python3.14,$(shell \
	$(each) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $(each))))
APP := .venv/up-to-date
LOCAL := .venv-local/up-to-date
BENCH := .venv-bench/up-to-date
FUZZ := .venv-fuzz/up-to-date
BIN := .venv/bin
# What ends up in the zip, by its digests.
SHIPPED := requirements.txt requirements-chalice.txt

.DEFAULT_GOAL := help
export PARAMS
.PHONY: help demo local install test check static bench soak fuzz browser proofs package deploy undeploy audit verify clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(APP) $(LOCAL) ## show the whole road on a local AWS organization
	@$(BIN)/python -m local.demo

local: $(APP) $(LOCAL) ## leave a local AWS organization running, to try things in
	@$(BIN)/python -m local up

install: ## the operator's command line, into .venv-cli
	$(python)
	@rm -rf build/lib # what an earlier commit had would be installed too
	@test -x .venv-cli/bin/python || "$(PYTHON)" -m venv .venv-cli
	@.venv-cli/bin/python -m pip install -qq --disable-pip-version-check .
	@echo "$$(.venv-cli/bin/rolecall --version) is installed as $(CURDIR)/.venv-cli/bin/rolecall; to have it on your PATH:"
	@echo "  ln -sf $(CURDIR)/.venv-cli/bin/rolecall ~/.local/bin/rolecall"

# The checks run beside the tests' first minute, and tell what they found after the tests' own summary.
test: $(APP) $(LOCAL) ## the checks and every test
	@$(MAKE) --no-print-directory static > .venv/static.log 2>&1 & static=$$!; \
	$(BIN)/pytest -q -n 2 --dist loadfile --cov --cov-report=term; tests=$$?; \
	wait $$static || { cat .venv/static.log >&2; exit 1; }; exit $$tests

check: static ## format, lint, types, layers, template, policies and the fast tests
	@$(BIN)/pytest -q tests/unit tests/deployment/test_lint.py

static: $(APP)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "not formatted: $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary && $(BIN)/mypy --no-error-summary .chalice/package.py
	@$(BIN)/lint-imports > .venv/layers.log || { cat .venv/layers.log >&2; exit 1; }

bench: $(BENCH) ## measure how fast it is, as ratios, in twenty minutes: OPTIONS=--quick for less
	@.venv-bench/bin/python -m benchmarks $(OPTIONS)

package: $(APP) ## template.yaml, deployment.zip and sbom.cdx.json: STAGE=dev OUT=build/dev
	$(call needs,STAGE OUT)
	@$(BIN)/python .chalice/package.py "$(STAGE)" "$(OUT)"

deploy: $(APP) ## to AWS: STAGE=dev BUCKET=artifacts PARAMS="SourcePrincipalArns=arn:... ..."
	$(call needs,STAGE BUCKET)
	@$(BIN)/python .chalice/package.py "$(STAGE)" "build/$(STAGE)"
	@$(BIN)/python -m deploy.deploy "$(STAGE)" "$(BUCKET)" "build/$(STAGE)"

undeploy: $(APP) ## from AWS, once nothing is enrolled: STAGE=dev
	$(call needs,STAGE)
	@$(BIN)/python -m deploy.undeploy "$(STAGE)"

audit: ## known weaknesses of what is shipped; needs the network
	$(python)
	@test -x .venv-audit/bin/pip-audit || { "$(PYTHON)" -m venv .venv-audit && .venv-audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit==2.10.1; }
	@.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes $(foreach file,$(SHIPPED),-r $(file))

verify: ## the demo, every test and what else proves something, in a clean clone of what is committed
	$(chromium)
	$(node)
	@clone=$$(mktemp -d) && trap 'rm -rf "$$clone"' EXIT && git clone --quiet . "$$clone" && $(MAKE) --no-print-directory -C "$$clone" demo test proofs

soak: $(APP) ## faults at every call, then as many seeds of an organization's life as there is time for: MINUTES=60
	$(call needs,MINUTES)
	@$(BIN)/python -m tests.integration.simulation.soak "$(MINUTES)"

fuzz: $(FUZZ) ## whatever may reach the functions, by a coverage-guided fuzzer (Linux on x86-64): MINUTES=60, TARGETS=rows for some
	$(call needs,MINUTES)
	@.venv-fuzz/bin/python -m tests.integration.fuzzing "$(MINUTES)" $(TARGETS)

browser: $(APP) ## the report in Chromium; takes its pictures in docs/ anew
	$(chromium)
	@$(BIN)/pytest -q verify/test_report_in_chromium.py

proofs: $(APP) $(LOCAL) ## the report in Chromium, who may read by another evaluator, and a thousand accounts under load
	$(chromium)
	$(node)
	@$(BIN)/pytest -q verify

clean: ## remove all that was made here
	rm -rf .venv .venv-local .venv-cli .venv-audit .venv-bench .venv-fuzz build *.egg-info .chalice/deployments .coverage .cache .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(APP): $(SHIPPED) requirements-dev.txt
	$(call environment,.venv,requirements-dev.txt,$(SHIPPED))

$(LOCAL): local/requirements.txt
	$(call environment,.venv-local,local/requirements.txt,)

$(BENCH): $(SHIPPED) benchmarks/requirements.txt
	$(call environment,.venv-bench,benchmarks/requirements.txt,$(SHIPPED))

# Atheris has wheels for Python 3.11 to 3.14, on Linux on x86-64 alone; it is never needed for make test.
$(FUZZ): $(SHIPPED) tests/integration/fuzzing/requirements.txt
	$(call environment,.venv-fuzz,tests/integration/fuzzing/requirements.txt,$(SHIPPED))

needs = $(foreach name,$(1),$(if $($(name)),,$(error say $(name)=..., as in: make $@ $(name)=...)))

# Debian's two packages, and a font for a machine that has none.
define chromium
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { echo "this needs Chromium and ChromeDriver: as root, apt-get install chromium chromium-driver fonts-dejavu-core" >&2; exit 1; }; \
		echo "installing Chromium and ChromeDriver, once" >&2; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null; }
endef

define node
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { echo "this needs Node.js: as root, apt-get install nodejs npm" >&2; exit 1; }; \
		echo "installing Node.js, once" >&2; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; }
endef

define python
	@test -n "$(PYTHON)" || { echo "Rolecall needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 1; }
endef

define environment
	$(python)
	@echo "setting up $(1) ($(2)), once" >&2
	@"$(PYTHON)" -m venv $(1)
	@$(if $(3),$(1)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes $(foreach file,$(3),-r $(file)))
	@$(1)/bin/python -m pip install -qq --disable-pip-version-check -r $(2)
	@touch $@
endef
