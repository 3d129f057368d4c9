"""Paths and jobs of a study."""

from pathlib import Path

import yaml

from sharpminima.config import load_config
from sharpminima.layout import Layout


def layout(study: str) -> Layout:
    return Layout(*load_config({**yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8")), "study": study}))


def test_methods_share_the_dense_nets_of_their_dataset_and_model() -> None:
    paths = layout("criteria").checkpoints()
    assert len(paths) == len(set(paths)) == 1 + 3 * 4 * 4  # dense; 3 methods, 4 levels, the method and 3 strategies
