# Everything a person does daily. Only python3 and make are assumed.

UV := .uv/bin/uv
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test test-slow soak bench lint format lock gpu clean

run: $(READY)  ## MovieLens-100K from raw files to a served answer
	$(BIN)/cmclrec quickstart

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

test: $(READY)  ## every test but the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(READY)  ## killed and parted processes, second pipeline runs
	$(PYTEST) -m slow

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

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE := $(UV) pip compile -q --python-version 3.10 --generate-hashes --no-annotate --no-header
EXTRAS := pipeline experiments retrieval dev

lock: $(UV)  ## after a change of the dependencies in setup.py
	$(COMPILE) setup.py $(EXTRAS:%=--extra %) -o requirements.lock
	$(COMPILE) setup.py --extra gpu -c requirements.lock -o requirements-gpu.lock

gpu: $(READY)  ## NVIDIA's libraries next to TensorFlow: 3 GB, for a machine with a GPU
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-gpu.lock
	$(BIN)/python -c "import tensorflow as tf; print(tf.config.list_physical_devices('GPU'))"

clean:  ## forget what runs left; the environment and downloads stay
	rm -rf var

# The environment is exactly the lock, and this folder as a package.
$(READY): requirements.lock setup.py .python-version $(UV)
	$(UV) venv --quiet --allow-existing .venv
	$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

$(UV): requirements-uv.lock
	python3 -m venv .uv || { echo "error: python3 -m venv failed: a Python with venv is required. \
	On Debian: apt-get install python3-venv" >&2; exit 2; }
	.uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@
