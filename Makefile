# make        set-up and the default study: every figure and the paper
# make test   set-up and the tests; make check the quick ones and the linters; make test-all those with a Slurm, too
# make help   all targets
# make track  set-up and, after a run, the tracked studies recorded in DVC (docs/dvc.md)
# make bench  set-up and the training benchmark (minutes); BENCH='--models lenet300' gives it options
#
# pip's own configuration is honoured. TORCH_INDEX=URL takes torch and torchvision from that index, e.g. one of
# PyTorch's own: its CPU index (about 200 MB) or a CUDA index.
PYTHON ?= python3
# uv takes a fraction of pip's time but knows none of pip's configuration: where that says where packages come from,
# pip installs. INSTALLER=pip and INSTALLER=uv decide it.
INSTALLER ?= $(shell command -v uv >/dev/null && said=$$($(PYTHON) -m pip config list 2>/dev/null) && \
  ! echo "$$said" | grep -Eq 'index|find-links|constraint|binary|proxy|cert|host' && echo uv || echo pip)
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Snakemake and papermill look for their programs on the path.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: all setup track bench lint format schemas docs dist lock clean

all: setup ## set-up and the default study: every figure and the paper
	$(RUN) snakemake --cores $(CORES)

setup: $(STAMP) ## .venv, from requirements.lock

TORCH = $$(grep -E '^(torch|torchvision)==' requirements.lock)
define SETUP_pip
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX) $(BIN)/python -m pip install --no-compile $(TORCH))
	$(BIN)/python -m pip install --no-compile -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
endef
define SETUP_uv
	uv venv --seed --allow-existing --python $(PYTHON) $(VENV)
	$(if $(TORCH_INDEX),uv pip install --python $(VENV) --index-url $(TORCH_INDEX) $(TORCH))
	uv pip install --python $(VENV) -r requirements.lock
	uv pip install --python $(VENV) --no-deps --no-build-isolation --editable .
endef
# Compiled on all cores, which pip does on one; without, each start of a Python that may not write compiles torch anew.
# Some packages hold files that are for other Pythons.
COMPILE = $(BIN)/python -m compileall -q -q -j 0 $(VENV)/lib src || true

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	  "error: Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2])'
	$(SETUP_$(INSTALLER))
	$(COMPILE)
	@touch $@

# Tests: what each target leaves out, the next one runs. Workers take tests from each other, and wait for Snakemake.
.PHONY: help check test test-long test-bench test-slurm test-slurm-demo test-all
PYTEST := $(RUN) pytest --numprocesses auto --maxprocesses 4 --dist worksteal

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: lint ## linters, types and the quick tests, in two minutes
	$(PYTEST) -m "not slow and not bench and not slurm"

test: setup ## set-up if needed, then the tests
	$(PYTEST) -m "not long and not bench and not slurm"

test-long: setup ## the tests that take minutes each, most of which train a study
	$(PYTEST) -m "long and not slurm"

test-bench: setup ## the tests of the benchmarks
	$(PYTEST) -m bench

test-slurm: setup ## a small study through a Slurm that is started and broken for it (by root, where Slurm is)
	$(RUN) pytest -m slurm tests/workflow/test_slurm.py

test-slurm-demo: setup ## the default study through that Slurm, and the tutorial of the cluster
	$(RUN) SLURM_STUDY=demo pytest -m slurm tests/workflow/test_slurm.py tests/docs/test_tutorials.py

test-all: test test-long test-bench test-slurm test-slurm-demo ## every test: before a release, and after a large change

track: setup ## after a run: the tracked studies recorded in DVC (docs/dvc.md)
	$(RUN) sharpminima track

bench: setup ## the training benchmark (minutes); BENCH='--models lenet300' gives it options
	$(BIN)/python -m benchmarks.training $(BENCH)

lint: setup ## the linters and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint
	$(RUN) snakemake --lint --snakefile workflow/Snakefile

format: setup ## sources as the linters want them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

schemas: setup ## the schemas of config and studies, from the code
	$(BIN)/sharpminima schema workflow/schemas

docs: schemas ## what is generated: the schemas, the picture of the imports, the site in docs/build/html
	$(BIN)/python docs/architecture.py
	$(RUN) sphinx-build --fail-on-warning --keep-going --quiet docs docs/build/html

dist: setup ## sdist and wheel in dist/, checked as an index would
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

# For maintainers. torch's own CUDA packages are left out: a CPU build needs none, a CUDA build pins its own.
lock: ## requirements.lock, for maintainers
	uv pip compile pyproject.toml requirements.in --extra pipeline --extra cluster --extra docs --extra test --universal --python-version 3.11 \
	  --no-annotate --custom-compile-command "make lock" --no-emit-package triton \
	  -o requirements.lock
	sed -i -E '/^(nvidia|cuda)-/d' requirements.lock

clean: ## remove .venv and everything that was made
	rm -rf $(VENV) .mypy_cache .snakemake paper/build dist
	[ ! -d results ] || find results -depth \( -type f ! -name '*.dvc' -o -type d -empty \) -delete # *.dvc are git's
