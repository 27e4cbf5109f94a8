# Run `make setup`, then `make demo`. Every target runs the set-up first, which takes no time when nothing has changed.

PYTHON ?= python3
# Package indexes with other builds of torch, as your organisation or PyTorch's install page names them. pip uses them
# beside its own index: TORCH_CPU_INDEX on machines without an NVIDIA GPU (saves several GB), TORCH_CUDA_INDEX on
# the others.
TORCH_CPU_INDEX ?=
TORCH_CUDA_INDEX ?=
# Extras to install, for example EXTRAS=test,dev (`face` needs an environment of its own: `make test-face`)
EXTRAS ?= test
# A video that `make demo` takes in place of the rendered subjects
VIDEO ?=
# How `make demo` finds the faces in VIDEO: with mediapipe, or FACES=aligned, or FACES=sidecar for landmarks
# beside VIDEO
FACES ?=
# Flags for pytest, for example PYTEST_FLAGS="-k invert -x"
PYTEST_FLAGS ?=
MLFLOW_PORT ?= 5000

BIN := .venv/bin
HAS_NVIDIA_GPU := $(shell [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null 2>&1 && echo yes)
TORCH_INDEX := $(if $(HAS_NVIDIA_GPU),$(TORCH_CUDA_INDEX),$(TORCH_CPU_INDEX))
PIP_INDEX_FLAGS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# Some tests need these programs beside Python packages: a browser for MLflow's page, ffmpeg, Ceph's gateway as a real
# S3 server, PostgreSQL, Prometheus, and iproute2 for several machines on one.
SYSTEM_PACKAGES := chromium curl ffmpeg radosgw ceph-mon ceph-osd postgresql prometheus iproute2

export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help setup demo check audit format test test-face test-cluster test-lowest test-latest lock docs quick system-packages cluster-up cluster-down mlflow-ui clean

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: .venv/.ready  ## make .venv with the locked packages and the build of torch for this machine

.venv-face/.ready: override EXTRAS = face,test
.venv-face/.ready: requirements-face.lock
.venv/.ready: requirements.lock
.venv/.ready .venv-face/.ready: pyproject.toml
	@echo "torch: the $(if $(HAS_NVIDIA_GPU),CUDA,CPU) build where the package index has both"
	[ -x $(@D)/bin/python ] || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(PIP_INDEX_FLAGS) --constraint $(filter %.lock,$^) --editable ".[$(EXTRAS)]"
	@touch $@

# `make demo VIDEO=` needs an environment with the extra `face` to find faces, unless FACES says where they are.
DEMO_ENVIRONMENT := $(if $(VIDEO),$(if $(filter sidecar aligned,$(FACES)),.venv,.venv-face),.venv)
demo: $(DEMO_ENVIRONMENT)/.ready  ## run the whole method: footage in, generated video out (VIDEO=path.mp4 takes your own)
	$(DEMO_ENVIRONMENT)/bin/python jobs/demo.py $(if $(VIDEO),--video "$(VIDEO)") $(if $(FACES),--faces $(FACES))

check: setup audit  ## check lint, format, types and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: setup  ## list known vulnerabilities of the installed packages, if their database (osv.dev) can be reached
	@if $(BIN)/python -c "import requests; requests.post('https://api.osv.dev/v1/query', json={}, timeout=5)" 2>/dev/null; \
	then $(BIN)/pip-audit --local --skip-editable --vulnerability-service osv --progress-spinner off; \
	else echo "audit skipped: api.osv.dev cannot be reached from here"; fi

format: setup  ## fix what the linter and the formatter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup system-packages  ## run the unit tests
	$(BIN)/pytest -m "not cluster" --numprocesses logical --maxprocesses 4 $(PYTEST_FLAGS)

# The tests of code and docs, of formats and of mathematics; none of these needs a video, a server or a process.
QUICK_TESTS := $(filter-out tests/test_analysis.py tests/test_quickstart.py tests/test_aws_launch.py,$(wildcard tests/test_*.py)) \
	tests/latents tests/metrics tests/store tests/temporal

quick: setup  ## check lint and types and run the fast tests, within four minutes on two cores
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(BIN)/pytest -m "not cluster" $(QUICK_TESTS) $(PYTEST_FLAGS); tests=$$?; wait $$types && exit $$tests

test-face: .venv-face/.ready  ## test the extra `face`, in an environment with the older numpy and protobuf that it needs
	.venv-face/bin/pytest tests/video/test_mediapipe_landmarks.py tests/orchestration/invert/test_face_model_on_ray.py $(PYTEST_FLAGS)

test-cluster: setup system-packages  ## run the tests that start Ray clusters, servers and a browser
	$(BIN)/pytest -m cluster $(PYTEST_FLAGS)

# These two targets test both ends of the version ranges in pyproject.toml. Warnings of other versions do not fail them.
test-lowest: setup system-packages  ## run the unit tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	sed -n 's/^ *"\([A-Za-z0-9-]*\)[^">]*>=\([0-9.]*\).*/\1==\2/p' pyproject.toml >.venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet $(PIP_INDEX_FLAGS) --constraint .venv-lowest/constraints.txt --editable ".[test]"
	.venv-lowest/bin/pytest -m "not cluster" -W default $(PYTEST_FLAGS)

test-latest: setup system-packages  ## run the unit tests with the newest versions that pyproject.toml allows, in .venv-latest
	$(PYTHON) -m venv --clear .venv-latest
	.venv-latest/bin/python -m pip install --quiet $(PIP_INDEX_FLAGS) --editable ".[test]"
	.venv-latest/bin/pytest -m "not cluster" -W default $(PYTEST_FLAGS)

lock: setup  ## renew requirements.lock and requirements-face.lock (LOCK_FLAGS=--upgrade takes the newest versions)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[dev]"
	$(call lock,requirements.lock,cluster dev docs test)
	$(call lock,requirements-face.lock,face test)

# $(call lock,FILE,EXTRAS) writes constraints for all platforms, without CUDA libraries, which torch itself requires.
lock = $(BIN)/uv pip compile pyproject.toml $(addprefix --extra ,$(2)) --universal --python-version 3.11 --quiet \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(LOCK_FLAGS) --output-file $(1) \
	&& sed -i '/^nvidia-/d; /^cuda-/d' $(1)

docs: setup  ## build the site of docs/ with a reference of all modules, in site/
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[docs]"
	$(BIN)/mkdocs build --strict

system-packages:
	@missing=$$(for name in $(SYSTEM_PACKAGES); do dpkg -s $$name >/dev/null 2>&1 || echo $$name; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null && exit 0; \
	fi; \
	echo "system packages not installed, tests that need them are skipped:" $$missing

cluster-up: setup  ## start a Ray head node on loopback with token authentication; submit jobs to it from this folder
	@cluster/head.sh up

cluster-down:  ## stop that head node and nothing else
	@cluster/head.sh down

mlflow-ui: setup  ## open MLflow's page on the experiment of this machine's latest run
	$(BIN)/python -m svgan_ray.runs.server --port $(MLFLOW_PORT)

clean:  ## remove the caches of the tools (results of jobs stay)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
