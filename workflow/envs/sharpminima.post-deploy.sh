#!/usr/bin/env bash
# Runs inside the new environment, from the folder in which Snakemake was started.
set -euo pipefail
python -m pip install -r requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
