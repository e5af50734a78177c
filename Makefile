# Everything a person does daily. Only python3 and make are assumed.

UV := .uv/bin/uv
BIN := .venv/bin

# There are two sets of packages: the newest, which needs glibc 2.39 or newer, and an older one.
# `make STACK=-glibc236 ...` takes the older one everywhere.
GLIBC := $(word 2, $(shell getconf GNU_LIBC_VERSION 2>/dev/null))
STACK := $(if $(GLIBC),$(shell printf '2.39\n$(GLIBC)\n' | sort --check=quiet --version-sort || echo -glibc236))
# The Python of the system if the set allows it, else one that uv finds or downloads.
PYTHONS := $(if $(STACK),3.10,3.12 3.13)
PYTHON := $(firstword $(filter $(shell python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'),$(PYTHONS)) $(PYTHONS))
LOCK := requirements$(STACK).lock
GPU_LOCK := requirements-gpu$(STACK).lock
READY := .venv/.ready$(STACK)

.PHONY: run test test-slow test-next exchange wheels stack soak bench lint audit format lock gpu clean

run: $(READY)  ## MovieLens-100K from raw files to a served answer
	$(BIN)/cmclrec quickstart

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

TESTS := tests

test: $(READY)  ## every test but the slow ones
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: $(READY)  ## killed and parted processes, second pipeline runs
	$(PYTEST) -m slow $(TESTS)

test-next:  ## lint, all tests and `make run` with the other set of packages, where glibc is old in a folder with Debian 13
	.ci/other-stack lint test test-slow run

exchange: $(READY)  ## loads what other sets of packages left in var/exchange, and leaves there what this one saves
	$(BIN)/python tests/exchange.py var/exchange packages$(STACK)

wheels:  ## the wheel with every extra on every Python, in environments of their own; twenty minutes
	.ci/wheels 3.10 3.11 3.12 3.13

stack:  ## the set of packages that the system takes: nothing for the newest
	@echo $(STACK)

soak: $(READY)  ## ten minutes of load and faults on a server; fails if an answer is lost or wrong
	$(BIN)/python -m benchmarks.soak --minutes 10 --out var/soak.json

PEERS := .venv-peers

bench: $(READY) $(PEERS)/.ready  ## the table of docs/performance.md; half an hour on idle cores
	$(BIN)/python -m benchmarks.run

# What training is compared with, RecBole, RecTools and PyTorch: 6 GB, as it is the PyTorch with CUDA.
$(PEERS)/.ready: benchmarks/requirements-peers.lock $(UV)
	$(UV) venv --quiet --allow-existing $(PEERS)
	$(UV) pip sync --python $(PEERS)/bin/python --require-hashes $<
	touch $@

lint: $(READY)  ## style, types, spelling, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python tests/prose.py

audit: $(READY)  ## known advisories of the locked packages
	$(BIN)/python tests/audit.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE := $(UV) pip compile -q --generate-hashes --no-annotate --no-header setup.py
OLD := $(COMPILE) --python-version 3.10
NEW := $(COMPILE) --python-version 3.12 --universal --override requirements-overrides.txt
EXTRAS := $(patsubst %,--extra %,pipeline experiments retrieval dev)

lock: $(UV)  ## after a change of the dependencies in setup.py
	$(NEW) $(EXTRAS) -o requirements.lock
	$(NEW) --extra gpu -c requirements.lock -o requirements-gpu.lock
	$(OLD) $(EXTRAS) -o requirements-glibc236.lock
	$(OLD) --extra gpu -c requirements-glibc236.lock -o requirements-gpu-glibc236.lock

gpu: $(READY)  ## NVIDIA's libraries next to TensorFlow: 3 GB, for a machine with a GPU
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r $(GPU_LOCK)
	$(BIN)/python -c "import tensorflow as tf; print(tf.config.list_physical_devices('GPU'))"

clean:  ## forget what runs left; the environment and downloads stay
	rm -rf var .other

# The environment is exactly the lock, and this folder as a package. It stays in place under programs
# that run in it, unless it is one of the other set.
$(READY): $(LOCK) setup.py $(UV)
	@echo "Installing $(LOCK): this system has $(if $(GLIBC),glibc $(GLIBC),no glibc)."
	PYENV_VERSION=$(PYTHON) $(UV) venv --quiet $(if $(wildcard $(READY)),--allow-existing,--clear) --python $(PYTHON) .venv
	$(UV) pip sync --python $(BIN)/python --require-hashes $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

$(UV): requirements-uv.lock
	python3 -m venv .uv || { echo "error: python3 -m venv failed: a Python with venv is required. \
	On Debian: apt-get install python3-venv" >&2; exit 2; }
	.uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@
