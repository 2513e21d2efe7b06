# Two commands matter: `make run` and `make test`. Each installs what it needs, alone, on a fresh Debian 12.
# Stamps under build/ keep the second call short.

PYTHON ?= python3
BIN := .venv/bin
# What one of pyproject.toml's extras lists, and not Cove.
install_extra = $(BIN)/pip install --quiet --disable-pip-version-check \
	$$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"])')
NPM = PATH="$(CURDIR)/$(BIN):$$PATH" npm --no-fund --no-audit
# Where `prerequisites.sh test` puts a docker client when the system has none that is new enough.
export PATH := $(CURDIR)/build/docker-cli/usr/bin:$(PATH)
# Without it each of the thousands of processes that tests start compiles Cove anew, which takes as long as what it does then.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run stop test test-vm test-host test-beside test-smoke test-types test-platforms test-dashboard test-dashboard-short test-clients test-clients-short test-cluster check-page dashboard-assets screenshots installers installers-lock check style types unit bench clean

run: build/run-packages .venv/run-stamp
	@$(BIN)/cove hello

stop:
	@$(BIN)/cove machine stop

# What needs the VM, which takes its time, and beside it what does not; mypy while that VM boots. Not with &, for a shell lets such
# processes ignore Ctrl-C, which tests send.
test: build/test-packages .venv/stamp style
	@$(MAKE) --no-print-directory -j3 -k test-vm test-beside test-types

test-vm:
	@$(BIN)/python tests/run_part.py vm

test-host:
	@$(BIN)/python tests/run_part.py host >build/test-host.log 2>&1; status=$$?; cat build/test-host.log; exit $$status

# The host's tests are done minutes before the VM's: there is time for a short look at the dashboard, other people's programs and other platforms.
test-beside:
	@$(MAKE) --no-print-directory test-host; host=$$?; $(MAKE) --no-print-directory test-dashboard-short; page=$$?; \
	$(MAKE) --no-print-directory test-clients-short; clients=$$?; \
	$(MAKE) --no-print-directory test-smoke && exit $$((host + page + clients))

# The dashboard's page in a browser, before an engine on this computer (docs/decisions/0062).
test-dashboard-short: .venv/stamp
	@$(BIN)/python tests/run_part.py page >build/test-page.log 2>&1; status=$$?; cat build/test-page.log; exit $$status

test-types:
	@$(MAKE) --no-print-directory types >build/test-types.log 2>&1; status=$$?; cat build/test-types.log; exit $$status

# A disk booted by real firmware, a machine of arm64, Windows' client under Wine (docs/decisions/0062).
test-smoke: .venv/stamp
	@$(BIN)/python tests/run_part.py smoke >build/test-smoke.log 2>&1; status=$$?; cat build/test-smoke.log; exit $$status

# What is for other systems than Linux, and installers, as far as it can be shown on one. Many minutes.
test-platforms: build/platforms-packages .venv/stamp installers
	@$(BIN)/pytest --part=platforms

# The dashboard's page in a browser, before a machine of its own; that the page that is committed is what its sources build; and the
# tray's icon on a screen.
test-dashboard: build/test-packages build/dashboard-packages .venv/dashboard-stamp check-page
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest --part=dashboard

# Other people's programs: dev containers' reference client, and testcontainers; before an engine on this computer, and then before a
# machine of their own.
test-clients: build/test-packages .venv/clients-stamp
	@$(BIN)/pytest --part=clients --native tests/clients
	@$(BIN)/pytest --part=clients tests/clients

test-clients-short: .venv/stamp
	@$(BIN)/python tests/run_part.py clients >build/test-clients.log 2>&1; status=$$?; cat build/test-clients.log; exit $$status

# `cove kube deploy` before Kubernetes' own control plane: etcd, kube-apiserver and kube-controller-manager, which are to be in the folder
# that CONTROL_PLANE names (tests/README.md).
test-cluster: .venv/stamp
	@COVE_TEST_CONTROL_PLANE="$(CONTROL_PLANE)" $(BIN)/pytest --part=cluster tests/cluster

# The page's types, and its parts.
check-page: .venv/page-stamp
	cd host/dashboard && $(NPM) run check && $(NPM) test

# The page's files, built from host/dashboard into host/cove/dashboard/assets. They are committed: a wheel is made without node.
dashboard-assets: .venv/page-stamp
	cd host/dashboard && $(NPM) run build

# docs/screenshots, of the page and the tray as they are.
screenshots: build/test-packages build/dashboard-packages .venv/dashboard-stamp
	@PYTHONPATH=tests:tests/dashboard $(BIN)/python tests/dashboard/screenshots.py docs/screenshots

# What needs neither root nor a VM, in seconds.
unit: .venv/stamp
	$(BIN)/pytest tests/unit

check: style types

style: .venv/stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# What the client is on macOS and Windows, mypy sees here; what is left out there is for other systems (tests/unit/test_other_systems.py).
# Benchmarks are run by nothing but `make bench`.
types: .venv/stamp
	$(BIN)/mypy
	MYPYPATH=tests/engine:tests:tests/bench:tests/bench/marks $(BIN)/mypy --follow-imports=silent tests/bench/*.py
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin --exclude 'share/watching/inotify' host
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 --exclude 'share/watching/inotify|share/ninep/posix' host

# Everything that Cove is installed from, into build/installers (installers/README.md).
installers: build/platforms-packages .venv/stamp
	@PYTHONPATH=installers $(BIN)/python -m making

installers-lock: .venv/stamp
	@PYTHONPATH=installers $(BIN)/python -m making lock

# Tables for docs/benchmarks.md. The machine should have nothing else to do.
bench: build/test-packages .venv/stamp
	@$(BIN)/python tests/bench/bench_runtime.py
	@$(BIN)/python tests/bench/bench_logs.py
	@$(BIN)/python tests/bench/bench_engine.py
	@$(BIN)/python tests/bench/bench_scale.py --charts build/charts
	@$(BIN)/python tests/bench/bench_images.py
	@$(BIN)/python tests/bench/bench_names.py
	@$(BIN)/python tests/bench/bench_networks.py
	@$(BIN)/python tests/bench/bench_build.py
	@$(BIN)/python tests/bench/bench_idle.py
	@$(BIN)/python tests/bench/profile_start.py
	@$(BIN)/python tests/bench/bench_machine.py
	@$(BIN)/python tests/bench/bench_holds.py
	@$(BIN)/python tests/bench/bench_ports.py
	@$(BIN)/python tests/bench/bench_folders.py
	@$(BIN)/cove machine start
	@$(BIN)/python tests/bench/bench_idle.py --machine
	@$(BIN)/python tests/bench/bench_cli.py "$$($(BIN)/cove machine status --json | $(BIN)/python -c 'import json, sys; print("unix://" + json.load(sys.stdin)["docker_socket"])')"

clean:
	rm -rf .venv build

# What Cove itself needs: who only wants to run it waits for nothing else.
.venv/run-stamp: pyproject.toml installers/linux/prerequisites.sh
	PYTHON=$(PYTHON) sh installers/linux/prerequisites.sh venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/stamp: .venv/run-stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Node comes from PyPI: Debian 12's is too old for Vite. Cove itself is not installed anew, for tests may be running with it.
.venv/page-stamp: .venv/stamp host/dashboard/package-lock.json
	$(call install_extra,dashboard)
	cd host/dashboard && $(NPM) ci --silent
	@touch $@

.venv/clients-stamp: .venv/stamp tests/clients/package.json tests/clients/package-lock.json
	$(call install_extra,clients)
	cd tests/clients && $(NPM) ci --silent --ignore-scripts
	@touch $@

.venv/dashboard-stamp: .venv/page-stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,tray]'
	@touch $@

build/%-packages: installers/linux/prerequisites.sh
	sh installers/linux/prerequisites.sh $*
	@mkdir -p build && touch $@
