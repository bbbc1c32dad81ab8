# make alone prints the targets. Every key=value goes to the program as it stands: make run task=detect input=~/photos
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV   := .venv
PY     := $(VENV)/bin/python
# the first Python 3.11-3.13 with venv on this machine; say PYTHON=/path/to/python to choose another
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)

# One shell word that holds make's own list of key=value; the program splits it (pipeline/config/overrides.py).
ARGS = --make '$(subst ','\'',$(MAKEOVERRIDES))'

.PHONY: help run sweep inspect models bench duplicates evaluate report compare drift repeats crops refilter export verify \
	train anchors export-model test \
	test-all test-faults check format clean

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/.run ## annotate images: make run task=detect input=DIR (no input: the samples)
	@$(PY) -m pipeline run $(ARGS)

sweep: $(VENV)/.run ## one run per combination: make sweep task=detect model=a,b min_score=0.3,0.5
	@$(PY) -m pipeline sweep $(ARGS)

inspect: $(VENV)/.run ## know a model: make inspect task=detect model=NAME classes=[dog]
	@$(PY) -m pipeline inspect $(ARGS)

duplicates: $(VENV)/.run ## the same picture twice: make duplicates input=DIR (run can skip them: skip_duplicates=near)
	@$(PY) -m pipeline duplicates $(ARGS)

models: $(VENV)/.run ## the catalogue: make models task=segment sort=accuracy
	@$(PY) -m pipeline models $(ARGS)

evaluate: $(VENV)/.run ## a run beside annotations, AP, top-1, mIoU: make evaluate run=outputs/latest truth=instances.json
	@$(PY) -m pipeline evaluate $(ARGS)

compare: $(VENV)/.run ## what changed between two runs: make compare runs=[outputs/BEFORE,outputs/AFTER]
	@$(PY) -m pipeline compare $(ARGS)

crops: $(VENV)/.run ## each box as a picture, in a folder for each class: make crops run=outputs/latest margin=0.1
	@$(PY) -m pipeline crops $(ARGS)

drift: $(VENV)/.run ## are images and detections still like a reference's? make drift run=outputs/latest reference=outputs/OLD
	@$(PY) -m pipeline drift $(ARGS)

export: $(VENV)/.run ## a run in another program's format: make export run=outputs/latest to=coco
	@$(PY) -m pipeline export $(ARGS)

refilter: $(VENV)/.run ## a run with a stricter filter, without the model: make refilter run=DIR min_score=0.7 classes=[dog]
	@$(PY) -m pipeline refilter $(ARGS)

report: $(VENV)/.run ## a run as one HTML page with a gallery to search: make report run=outputs/latest
	@$(PY) -m pipeline report $(ARGS)

repeats: $(VENV)/.run ## boxes that come again and again at one place of a camera: make repeats run=outputs/latest
	@$(PY) -m pipeline repeats $(ARGS)

verify: $(VENV)/.run ## does a run folder hold what was committed? make verify run=outputs/latest
	@$(PY) -m pipeline verify $(ARGS)

bench: $(VENV)/.run ## how fast, beside plain loops and the hardware: make bench task=classify model=NAME input=DIR
	@$(PY) -m pipeline bench $(ARGS)

train: $(VENV)/.train ## learn your classes: make train task=detect model=NAME train.data=instances.json
	@$(PY) -m pipeline train $(ARGS)

anchors: $(VENV)/.train ## anchor boxes that fit your data: make anchors model=NAME train.data=instances.json
	@$(PY) -m pipeline anchors $(ARGS)

export-model: $(VENV)/.train ## a model as a program, compared with itself: make export-model model=FILE.safetensors to=onnx
	@$(PY) -m pipeline export-model $(ARGS)

# passive: OpenMP teams of two processes at once must not spin against each other
PYTEST = OMP_WAIT_POLICY=passive $(PY) -m pytest -n 2 --dist worksteal

test: $(VENV)/.dev ## run the quick tests (under 4 minutes on two cores)
	@$(PYTEST)

test-all: $(VENV)/.dev ## run all tests but those of test-faults
	@$(PYTEST) -m 'not faults'

test-faults: $(VENV)/.dev ## run the tests that kill processes and fill disks (10 minutes)
	@$(PYTEST) -m faults

check: $(VENV)/.dev ## lint, format check and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(VENV)/.dev ## rewrite the code in the project's format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

clean: ## remove .venv and caches (outputs/ stays: it is yours)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@test -n '$(PYTHON)' || { echo 'No Python 3.11, 3.12 or 3.13 with venv found. Install one, or say PYTHON=/path/to/python.' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# A stamp is newer than what it was made from, or pip runs again.
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
