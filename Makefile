# make        set-up and the default study: every figure and the paper
# make test   set-up and the tests; make test-slurm those that start a Slurm of their own (by root, where Slurm is)
# make track  set-up and, after a run, the tracked studies recorded in DVC (docs/dvc.md)
# make bench  set-up and the training benchmark (minutes); BENCH='--models lenet300' gives it options
#
# pip's own configuration is honoured. TORCH_INDEX=URL takes torch and torchvision from that index, e.g. one of
# PyTorch's own: its CPU index (about 200 MB) or a CUDA index.
PYTHON ?= python3
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Snakemake and papermill look for their programs on the path.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: all setup test test-slurm track bench lint format schemas lock clean

all: setup
	$(RUN) snakemake --cores $(CORES)

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else \
	  "error: Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),PIP_INDEX_URL=$(TORCH_INDEX) $(BIN)/python -m pip install \
	  $$(grep -E '^(torch|torchvision)==' requirements.lock))
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

test: setup
	$(RUN) pytest -m "not slurm" --numprocesses auto --maxprocesses 4 --dist loadfile

test-slurm: setup
	$(RUN) pytest -m slurm

track: setup
	$(RUN) sharpminima track

bench: setup
	$(BIN)/python -m benchmarks.training $(BENCH)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

schemas: setup
	$(BIN)/sharpminima schema workflow/schemas

# For maintainers. torch's own CUDA packages are left out: a CPU build needs none, a CUDA build pins its own.
lock:
	uv pip compile pyproject.toml requirements.in --extra pipeline --extra cluster --extra test --universal --python-version 3.11 \
	  --no-annotate --custom-compile-command "make lock" --no-emit-package triton \
	  -o requirements.lock
	sed -i -E '/^(nvidia|cuda)-/d' requirements.lock

clean:
	rm -rf $(VENV) .snakemake results paper/build
