# Everything runs in .venv, which is made from lock/ once and again when the lock changes.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv

.DEFAULT_GOAL := help
MINUTES ?= 10
# Modules are compiled once, not by every process: some machines ask Python to keep no bytecode, with
# which importing PyTorch and Lightning takes more than twice as long.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help setup demo test test-slow soak test-s3prl test-newest test-lowest check fix docs wheels bench bench-loader bench-encoder bench-pretrain bench-gpu results lock

help: ## list the targets
	@awk -F ':.*## ' '/^## / { printf "\n%s\n", substr($$0, 4) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-17s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## To use it
setup: .venv/.runtime ## create the environment in .venv from the lock

demo: .venv/.runtime ## synthesise a corpus and run the whole path on it (8 minutes on two slow cores)
	$(BIN)/aalbert demo --out demo

## To change it
check: .venv/.dev ## check format, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/.dev ## put format and lint right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: .venv/.dev ## run the tests
	$(BIN)/python -m pytest -n auto -m "not slow and not gpu"

test-slow: .venv/.dev ## run all tests, the slow ones too
	$(BIN)/python -m pytest -n auto -m "not gpu"

soak: .venv/.dev ## put random faults to the project for MINUTES=10 (tests/soak/README.md)
	$(BIN)/python -m pytest -n auto --dist worksteal tests/soak --minutes $(MINUTES)

test-s3prl: .venv/.s3prl ## test the upstream for s3prl against s3prl itself
	$(BIN)/python -m pytest tests/pipeline/test_s3prl_expert.py \
	  tests/models/wave_encoders/test_s3prl_encoder.py tests/test_documents.py tests/test_migration.py \
	  tests/conversion/test_published_names.py

test-newest: .venv/.uv ## run the tests in .venv-newest: the package installed with the newest versions it allows
	$(call test-install,.venv-newest,highest)

test-lowest: .venv/.uv ## run the tests in .venv-lowest: the same with the lowest versions
	$(call test-install,.venv-lowest,lowest-direct)

docs: .venv/.docs ## make a site of the documents in site/ (open site/index.html)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheels: .venv/.release ## build the source distribution and the wheel for this machine in dist/, and try them
	rm -rf build dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/abi3audit --strict dist/*.whl
	$(PYTHON) -m venv --clear --without-pip .venv-wheel
	$(UV) pip install --quiet --python .venv-wheel/bin/python dist/*.whl
	.venv-wheel/bin/python -I .ci/smoke.py

lock: .venv/.uv ## resolve the dependencies anew into lock/
	$(UV) pip compile $(LOCKED) lock/bootstrap.in -o lock/bootstrap.txt
	$(UV) pip compile $(LOCKED) pyproject.toml lock/build.in --extra dev -c lock/pins.in -o lock/dev.txt
	$(UV) pip compile $(LOCKED) pyproject.toml lock/build.in -c lock/dev.txt -o lock/runtime.txt
	$(UV) pip compile $(LOCKED) pyproject.toml lock/build.in --extra bench -c lock/dev.txt -o lock/bench.txt
	$(UV) pip compile $(LOCKED) pyproject.toml lock/build.in --extra s3prl -c lock/dev.txt -o lock/s3prl.txt
	$(UV) pip compile $(LOCKED) pyproject.toml lock/build.in --extra docs -c lock/dev.txt -o lock/docs.txt
	$(UV) pip compile $(LOCKED) pyproject.toml lock/build.in --extra release -c lock/dev.txt -o lock/release.txt

## To measure it
bench: .venv/.bench ## measure `prepare` beside other ways to do its work (prints JSON lines)
	$(BIN)/python -m benchmarks.prepare

bench-loader: .venv/.bench ## measure the loader beside five others (an hour; prints JSON lines)
	$(BIN)/python -m benchmarks.loader

bench-pretrain: .venv/.bench ## measure a step of every preset beside the reference's way (prints JSON lines)
	$(BIN)/python -m benchmarks.pretrain

bench-encoder: .venv/.dev ## measure a training step of the encoder beside an eager one (prints JSON lines)
	$(BIN)/python -m benchmarks.encoder

bench-gpu: .venv/.dev ## show on a GPU, in ten minutes, everything that is claimed for one
	$(BIN)/python -m benchmarks.gpu --minutes 10 --out bench-gpu

results: .venv/.dev ## pretrain for 3 minutes and print the ladder of docs/results.md (needs DATA, PHONES and STUDIO)
	$(BIN)/python -m benchmarks.ladder run --data $(DATA) --phones $(PHONES) --studio $(STUDIO) \
	  --out results --minutes 3 --seeds 0
	$(BIN)/python -m benchmarks.ladder table --out results

LOCKED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

# Install as a user does, not editable: the kernel and the presets that are tested come from the
# package. setuptools would pack what an earlier build left in build/.
define test-install
	rm -rf build
	$(PYTHON) -m venv --clear --without-pip $(1)
	$(UV) pip install --python $(1)/bin/python --resolution $(2) --refresh-package aalbert '.[dev]'
	$(1)/bin/python -m pytest -n auto -m "not slow and not gpu"
endef

.venv/.uv: lock/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aalbert needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r lock/bootstrap.txt
	@touch $@

.venv/.runtime: .venv/.uv lock/runtime.txt pyproject.toml $(wildcard kernel/*.c kernel/*.h)
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/runtime.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.runtime lock/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/dev.txt
	@touch $@

.venv/.bench: .venv/.dev lock/bench.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/bench.txt
	@touch $@

.venv/.s3prl: .venv/.dev lock/s3prl.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/s3prl.txt
	@touch $@

.venv/.docs: .venv/.dev lock/docs.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/docs.txt
	@touch $@

.venv/.release: .venv/.dev lock/release.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/release.txt
	@touch $@
