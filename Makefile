# Each target is one command of upcheck or pytest; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
PACKAGE := --constraint constraints.txt --editable '.[dev]'

BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help check run watch demo collector up down status logs tools clean
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

check: $(READY) ## prove everything: live checks against a collector, rule tests, configurations
	@$(BIN)/upcheck check $(ARGS)

run: $(READY) ## the live checks once, many at a time: for cron
	@$(BIN)/upcheck run $(ARGS)

watch: $(READY) ## the live checks for ever, until Ctrl-C
	@$(BIN)/upcheck watch $(ARGS)

demo: $(READY) ## a service's traffic, made up, in a real Prometheus: SERVICE=coderunner
	@$(BIN)/upcheck demo $(or $(SERVICE),all) $(ARGS)

collector: $(READY) ## serve this host's metrics and health until Ctrl-C
	@$(BIN)/python collector.py

up: $(READY) ## everything on this machine: collector, watch, Prometheus, Alertmanager, exporters
	@$(BIN)/upcheck stack up $(ARGS)

down: $(READY) ## end what `make up` has started; data stay
	@$(BIN)/upcheck stack stop

status: $(READY) ## how each of these services is
	@$(BIN)/upcheck stack status

logs: $(READY) ## what they print: SERVICE=prometheus, ARGS=--follow
	@$(BIN)/upcheck stack logs $(SERVICE) $(ARGS)

tools: $(READY) ## which promtool, amtool, prometheus and alertmanager are used
	@$(BIN)/upcheck tools list

clean: ## remove what make has made
	rm -rf $(VENV) .tools .upcheck

# Once, and again when what is pinned changes. Debian's python3 has no pip of its own: then pip comes from
# Debian's package for virtual environments, unpacked into a temporary folder, without root.
$(READY): $(firstword $(wildcard constraints.txt) Makefile)
	@mkdir -p '$(VENV)' 2>/dev/null && test -w '$(VENV)' || { echo "$(VENV) can't be made here (a read-only checkout?): name another place, as in" >&2; echo "  make VENV=/tmp/upcheck-venv UPCHECK_TOOLS=/tmp/upcheck-tools UPCHECK_HISTORY=/tmp/upcheck.sqlite $(or $(MAKECMDGOALS),check)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("upcheck needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": name another, as in make PYTHON=python3.12 check")'
	@echo 'making $(VENV) (once)' >&2
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv '$(VENV)' || { \
	  set -e; $(PYTHON) -m venv --without-pip '$(VENV)'; venv=$$(cd '$(VENV)' && pwd); \
	  folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; mkdir -p "$$folder/lists/partial" "$$folder/cache/archives/partial"; \
	  apt="apt-get -qq -o Dir::State::Lists=$$folder/lists -o Dir::Cache=$$folder/cache -o APT::Sandbox::User= -o Debug::NoLocking=1"; \
	  cd "$$folder"; $$apt update; $$apt download python3-pip-whl; dpkg-deb -x python3-pip-whl_*.deb .; \
	  PYTHONPATH=$$(echo usr/share/python-wheels/pip-*.whl) "$$venv/bin/python" -m pip install -q pip; }
	@$(BIN)/python -m pip install -q $(PACKAGE)
	@touch $@

# ---- below: what makes the library itself, which `upcheck init` leaves out ----

.PHONY: test lint bench
# Hundreds of processes would each compile the library again where no bytecode is written.
test: $(READY) ## the library's own tests
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest tests -n 5 --dist loadfile --no-loadscope-reorder -q

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: $(READY) ## the figures, a JSON line each
	@$(BIN)/python -m benchmarks.rules
	@$(BIN)/python -m benchmarks.mutation
	@$(BIN)/python -m benchmarks.backtest
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.suite
	@$(BIN)/python -m benchmarks.engine
	@$(BIN)/python -m benchmarks.probes
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.history
	@$(BIN)/python -m benchmarks.sla
	@$(BIN)/python -m benchmarks.collector
	@$(BIN)/python -m benchmarks.exposition
	@$(BIN)/python -m benchmarks.middleware
	@$(BIN)/python -m benchmarks.ingest
	@$(BIN)/python -m benchmarks.stack
