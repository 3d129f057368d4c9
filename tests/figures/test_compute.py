"""Compute used, worked by hand."""

import pandas as pd
import pytest

from sharpminima.report.compute import compute_used

from . import cases


def test_epochs_images_and_operations() -> None:
    study = {"data": {"validation_share": 0.1}}
    rows = [
        cases.result(strategy="dense", seed=seed, epochs=epochs, flops_dense=1000) for seed, epochs in enumerate((3, 5))
    ]
    rows += [
        cases.result(strategy="gradual", level=level, seed=0, epochs=40, flops_dense=1000) for level in (0.9, 0.95)
    ]
    rows += [cases.result(strategy="reinit", replica=replica, epochs=7, flops_dense=1000) for replica in range(3)]
    dense, method, retraining = compute_used(pd.DataFrame(rows), study)
    # 1,438 training digits, of which 144 are the validation split.
    images = 8 * (1438 - 144)
    assert dense == {
        "kind": "dense",
        "trainings": 2,
        "epochs": 8,
        "images": images,
        "teraflop": pytest.approx(3 * 1000 * images / 1e12),
    }
    assert (method["trainings"], method["epochs"]) == (1, 40)  # one run, two levels
    assert (retraining["trainings"], retraining["epochs"]) == (3, 21)


def test_a_method_that_trains_for_each_level_is_counted_at_each() -> None:
    rows = [cases.result(strategy="gradual", method="snip", level=level, epochs=20) for level in (0.9, 0.95)]
    _, method, _ = compute_used(pd.DataFrame(rows), {})
    assert method["epochs"] == 40
