# `make demo` and `make test` set up everything themselves: Debian packages, a virtual environment in .venv, the build.
PYTHON ?= $(or $(wildcard /usr/bin/python3),python3)
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := gcc libc6-dev musl-tools linux-libc-dev libseccomp-dev libcap-dev python3-dev python3-venv busybox-static
# golang-github-opencontainers-specs-dev has the specification's JSON schemas
TEST_PACKAGES := runc crun podman netavark catatonit iptables slirp4netns buildah docker.io containerd containernetworking-plugins iproute2 uidmap golang-github-opencontainers-specs-dev criu zsh fish man-db systemd dbus-user-session
VM_PACKAGES := linux-image-cloud-amd64 kmod qemu-system-x86 qemu-system-common busybox-static procps apparmor systemd dbus secilc
# what `make test-vm` runs on cgroup v2 alone, and what under systemd; nothing is left out of the latter, of the former what CI runs
TESTS := tests/contract/test_native.py $(addprefix tests/conformance/test_,process.py environment.py life_cycle.py) tests/privileged tests/security tests/vm/test_features.py $(addprefix tests/vm/test_,checkpoint.py checkpoint_commands.py hostile_checkpoints.py)
SYSTEMD_TESTS := tests/vm/test_systemd.py tests/vm/test_systemd_properties.py tests/vm/test_delegation.py tests/engines
SELECTED_TESTS := tests/vm/test_features.py $(addprefix tests/vm/test_checkpoint.py::test_,a_running_counter_goes_on files_and_binds) $(addprefix tests/privileged/test_,cgroups.py cgroup_owner.py rootless_cgroups.py devices.py limits.py update.py accounting.py)
SELECTED_SYSTEMD_TESTS := $(SYSTEMD_TESTS) -k 'not TestSystemd and (test_systemd or test_delegation or (pyruntime and test_cgroup))'

# Nothing stays on the host outside of the clone: neither caches in the home directory, nor what pytest keeps of its last runs.
# The root of a user namespace must pass the tests' directory too, hence 755.
export PIP_CACHE_DIR ?= $(CURDIR)/$(VENV)/cache/pip
export MPLCONFIGDIR ?= $(CURDIR)/$(VENV)/cache/matplotlib
# The command line is tried as it is installed, with its bytecode: compiling it each time takes half as long again.
unexport PYTHONDONTWRITEBYTECODE
IN_TEMPORARY := directory=$$(mktemp -d -t pyruntime-test-XXXXXX) && trap 'rm -rf --one-file-system "$$directory"' EXIT && \
	trap 'exit 1' HUP INT TERM && chmod 755 "$$directory" && TMPDIR=$$directory

.PHONY: manual demo test test-sanitized test-vm test-vm-systemd test-vm-selected conformance conformance-run vm-packages lint unit bench packages test-packages clean

demo: $(VENV)/.built
	$(BIN)/python -m pyruntime.demo

test: test-packages $(VENV)/.built-test lint
	$(IN_TEMPORARY) $(BIN)/python -m pytest -q
	@$(MAKE) --no-print-directory test-sanitized

# the extension under AddressSanitizer and UndefinedBehaviorSanitizer, in an init that traps on undefined behaviour; Python's own
# allocator would hide from them what lies beside a plan
SANITIZED := build/sanitized/site
SANITIZED_TESTS := tests/contract/test_native.py tests/security/test_plan_fuzz.py tests/unit/test_encoder.py tests/privileged
test-sanitized: $(VENV)/.built-test
	rm -rf $(SANITIZED)
	PYRUNTIME_SANITIZE=1 $(BIN)/pip install -q --disable-pip-version-check --no-deps --target $(SANITIZED) .
	$(IN_TEMPORARY) LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	PYTHONSAFEPATH=1 PYTHONPATH=$(SANITIZED) PYRUNTIME_SANITIZED=1 \
	$(BIN)/python -m pytest -q -p no:cacheprovider $(SANITIZED_TESTS)

# the same on Debian's stock kernel with cgroup v2 alone, and the rest of it under systemd
IN_VM := $(BIN)/python tests/vm/run.py --timeout 10800 $(VM)
# a policy is loaded by the tests; nothing is enforced, so that they need none for everything else
SELINUX := --parameters 'security=selinux selinux=1 enforcing=0'
PYTEST_IN_VM := $(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider -o timeout=600
test-vm: $(VENV)/.built-test vm-packages
	$(IN_VM) $(PYTEST_IN_VM) $(TESTS)
	$(IN_VM) --systemd $(PYTEST_IN_VM) $(SYSTEMD_TESTS)
	$(IN_VM) $(SELINUX) $(PYTEST_IN_VM) tests/vm/test_selinux.py

test-vm-systemd: $(VENV)/.built-test vm-packages
	$(IN_VM) --systemd $(PYTEST_IN_VM) $(SYSTEMD_TESTS)

# as much of it as takes less than ten minutes
test-vm-selected: $(VENV)/.built-test vm-packages
	$(BIN)/python -m pytest -q tests/vm/test_run.py
	$(IN_VM) $(PYTEST_IN_VM) $(SELECTED_TESTS)
	$(IN_VM) --systemd $(PYTEST_IN_VM) $(SELECTED_SYSTEMD_TESTS)
	$(IN_VM) $(SELINUX) $(PYTEST_IN_VM) tests/vm/test_selinux.py

# docs/conformance.md from what the tests claim and what was recorded; the latter also runs all that claims something, wherever it can run
conformance: $(VENV)/.built-test
	$(BIN)/python tests/conformance/document.py

conformance-run: $(VENV)/.built-test vm-packages
	$(IN_TEMPORARY) $(BIN)/python tests/conformance/record.py

# docs/pyruntime.8 from the table of commands and options
manual: $(VENV)/.built
	$(BIN)/python -m pyruntime.cli.manual > docs/pyruntime.8

vm-packages:
	@$(MAKE) --no-print-directory test-packages TEST_PACKAGES="$(TEST_PACKAGES) $(VM_PACKAGES)"

lint: $(VENV)/.built-test
	$(BIN)/ruff check pyruntime tests bench build.py
	$(BIN)/mypy

bench: test-packages $(VENV)/.built-bench
	$(BIN)/python -m bench $(BENCH)

packages:
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

test-packages:
	@missing=$$(for p in $(TEST_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

$(VENV)/bin/python:
	$(MAKE) packages
	$(PYTHON) -m venv $(VENV)

SOURCES := build.py pyproject.toml $(wildcard native/*.c native/*.h)

$(VENV)/.built: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/.built-test: $(VENV)/.built
	$(BIN)/pip install -q --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.built-bench: $(VENV)/.built
	$(BIN)/pip install -q --disable-pip-version-check -e '.[bench]'
	touch $@

clean:
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
	rm -rf $(VENV) build dist *.egg-info pyruntime/_native*.so
