# The targets of this repository. Virtual environments are created if they are missing or out of date.

PYTHON ?= $(firstword $(foreach each,python3 python3.13 python3.12 python3.11 python3.14,$(shell \
	$(each) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $(each))))
APP := .venv/up-to-date
LOCAL := .venv-local/up-to-date
BENCH := .venv-bench/up-to-date
FUZZ := .venv-fuzz/up-to-date
BIN := .venv/bin
# The content of the zip, pinned by digests.
SHIPPED := requirements.txt requirements-chalice.txt

.DEFAULT_GOAL := help
export PARAMS
.PHONY: help demo local install dist test check static bench soak fuzz browser proofs package deploy undeploy audit verify clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(APP) $(LOCAL) ## run the full lifecycle on a local AWS organization
	@$(BIN)/python -m local.demo

local: $(APP) $(LOCAL) ## start a local AWS organization and keep it running
	@$(BIN)/python -m local

install: dist ## install the command line into .venv-cli
	@test -x .venv-cli/bin/python || "$(PYTHON)" -m venv .venv-cli
	@.venv-cli/bin/python -m pip install -qq --disable-pip-version-check --force-reinstall dist/*.whl
	@echo "$$(.venv-cli/bin/rolecall --version) is installed as $(CURDIR)/.venv-cli/bin/rolecall. To add it to your PATH:"
	@echo "  ln -sf $(CURDIR)/.venv-cli/bin/rolecall ~/.local/bin/rolecall"

# The checks run in parallel with the first minute of tests; their output follows the tests' summary.
test: $(APP) $(LOCAL) ## run the checks and every test, or only T=tests/unit/test_arns.py or T=file::test
ifdef T
	@$(BIN)/pytest -q $(T)
else
	@$(MAKE) --no-print-directory static > .venv/static.log 2>&1 & static=$$!; \
	$(BIN)/pytest -q -n 2 --dist loadfile --cov --cov-report=term; tests=$$?; \
	wait $$static || { cat .venv/static.log >&2; exit 1; }; exit $$tests
endif

check: static ## check format, lint, types, layers, generated docs, template and policies, and run the fast tests
	@$(BIN)/pytest -q tests/unit tests/deployment/test_lint.py

static: $(APP)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "files are not formatted; run $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary && $(BIN)/mypy --no-error-summary .chalice/package.py .ci/retired_words.py .ci/dist.py
	@$(BIN)/python .ci/retired_words.py
	@$(BIN)/python -m docs.generate --check
	@$(BIN)/lint-imports > .venv/layers.log || { cat .venv/layers.log >&2; exit 1; }

bench: $(BENCH) ## measure performance, as ratios, in twenty minutes: OPTIONS=--quick for less
	@.venv-bench/bin/python -m benchmarks $(OPTIONS)

package: $(APP) ## rolecall package: STAGE=dev OUT=build/dev
	$(call needs,STAGE OUT)
	@$(BIN)/python -m rolecall package "$(STAGE)" --out "$(OUT)"

deploy: $(APP) ## rolecall deploy: STAGE=dev PARAMS="SourcePrincipalArns=arn:..." BUCKET=artifacts OPTIONS=--yes
	$(call needs,STAGE)
	@$(BIN)/python -m rolecall deploy "$(STAGE)" --bucket "$(BUCKET)" --params "$$PARAMS" $(OPTIONS)

undeploy: $(APP) ## rolecall undeploy: STAGE=dev OPTIONS=--yes
	$(call needs,STAGE)
	@$(BIN)/python -m rolecall undeploy "$(STAGE)" $(OPTIONS)

dist: $(APP) ## build the wheel and the sdist, which contain the packaged app, into dist/
	@$(BIN)/python .ci/dist.py dist

audit: ## check the shipped packages for known vulnerabilities; needs the network
	$(python)
	@test -x .venv-audit/bin/pip-audit || { "$(PYTHON)" -m venv .venv-audit && .venv-audit/bin/python -m pip install -qq --disable-pip-version-check pip-audit==2.10.1; }
	@.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes $(foreach file,$(SHIPPED),-r $(file))

verify: ## run the demo, every test and the proofs in a clean clone of the current commit
	$(chromium)
	$(node)
	@clone=$$(mktemp -d) && trap 'rm -rf "$$clone"' EXIT && git clone --quiet . "$$clone" && $(MAKE) --no-print-directory -C "$$clone" demo test proofs

soak: $(APP) ## inject faults at every call, then simulate new seeds until the time is over: MINUTES=60
	$(call needs,MINUTES)
	@$(BIN)/python -m tests.integration.simulation.soak "$(MINUTES)"

fuzz: $(FUZZ) ## fuzz the functions' inputs, guided by coverage (Linux on x86-64): MINUTES=60 TARGETS=rows
	$(call needs,MINUTES)
	@.venv-fuzz/bin/python -m tests.integration.fuzzing "$(MINUTES)" $(TARGETS)

browser: $(APP) ## test the report in Chromium, and update its screenshots in docs/
	$(chromium)
	@$(BIN)/pytest -q verify/test_report_in_chromium.py

proofs: $(APP) $(LOCAL) ## run the browser test, an independent IAM evaluator, a load test, the readers' tools, and the review of ReadOnlyAccess
	$(chromium)
	$(node)
	@$(BIN)/pytest -q verify

clean: ## delete everything that make created
	rm -rf .venv .venv-local .venv-cli .venv-audit .venv-bench .venv-fuzz build dist rolecall/app *.egg-info .chalice/deployments .coverage .cache .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(APP): $(SHIPPED) requirements-dev.txt
	$(call environment,.venv,requirements-dev.txt,$(SHIPPED))

$(LOCAL): local/requirements.txt
	$(call environment,.venv-local,local/requirements.txt,)

$(BENCH): $(SHIPPED) benchmarks/requirements.txt
	$(call environment,.venv-bench,benchmarks/requirements.txt,$(SHIPPED))

# Atheris has wheels only for Python 3.11 to 3.14 on Linux on x86-64; make test doesn't need it.
$(FUZZ): $(SHIPPED) tests/integration/fuzzing/requirements.txt
	$(call environment,.venv-fuzz,tests/integration/fuzzing/requirements.txt,$(SHIPPED))

needs = $(foreach name,$(1),$(if $($(name)),,$(error $(name) is required: make $@ $(foreach each,$(1),$(each)=...))))

# Debian's packages, and a font in case there is none.
define chromium
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { echo "Chromium and ChromeDriver are required; run as root: apt-get install chromium chromium-driver fonts-dejavu-core" >&2; exit 1; }; \
		echo "installing Chromium and ChromeDriver" >&2; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null; }
endef

define node
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { echo "Node.js is required; run as root: apt-get install nodejs npm" >&2; exit 1; }; \
		echo "installing Node.js" >&2; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; }
endef

define python
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is required; install it, or run make PYTHON=/path/to/python3" >&2; exit 1; }
endef

define environment
	$(python)
	@echo "creating $(1) from $(2)" >&2
	@"$(PYTHON)" -m venv $(1)
	@$(if $(3),$(1)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes $(foreach file,$(3),-r $(file)))
	@$(1)/bin/python -m pip install -qq --disable-pip-version-check -r $(2)
	@touch $@
endef
