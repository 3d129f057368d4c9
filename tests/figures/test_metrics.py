import pytest

from sharpminima.base.files import read_json
from sharpminima.report.metrics import main_numbers
from sharpminima.report.numbers import summarise

from . import cases


def test_main_numbers_are_means_of_the_tables(tmp_path):
    results = cases.write(tmp_path, "results", cases.results())
    psp = [cases.write(tmp_path, "psp", cases.psp(seed=seed), f"psp-{seed}") for seed in cases.SEEDS]
    hessian = [cases.write(tmp_path, "hessian", cases.hessian(seed=seed), f"hessian-{seed}") for seed in cases.SEEDS]
    summarise(results, {"psp": psp, "hessian": hessian}, "paper/claims.yaml", {}, tmp_path / "numbers.json")
    found = main_numbers(read_json(tmp_path / "numbers.json"))
    net = found["digits/lenet5/lobster"]
    assert net["dense"] == {"test_error_percent": pytest.approx(1.1)}
    assert net["level-90"]["gradual"]["test_error_percent"] == pytest.approx(1.45)
    assert net["psp_norm"] == pytest.approx({"G": 1.0, "1-S": 2.1})
    assert net["largest_eigenvalue_all"] == pytest.approx({"G": 41.0, "1-S": 11.0})
    assert sum(found["claims"].values()) > 0


def test_what_was_measured_of_dense_nets_is_there_too(tmp_path):
    results = cases.write(tmp_path, "results", cases.results())
    psp = [cases.write(tmp_path, "psp", cases.psp(seed=seed, dense=True), f"psp-{seed}") for seed in cases.SEEDS]
    summarise(results, {"psp": psp}, "paper/claims.yaml", {}, tmp_path / "numbers.json")
    numbers = read_json(tmp_path / "numbers.json")
    net = main_numbers(numbers)["digits/lenet5/lobster"]
    assert net["entropy_1_bits"].keys() == {"G", "1-S", "dense"}
    assert (
        net["entropy_1_bits"]["dense"]
        == numbers["experiments"][0]["analysis"]["psp"]["entropy_1_bits"]["dense"]["mean"]
    )


def test_a_study_without_analysis_has_errors_only(tmp_path):
    results = cases.write(tmp_path, "results", cases.results(levels=(0.5,)))
    summarise(results, {}, "paper/claims.yaml", {}, tmp_path / "numbers.json")
    net = main_numbers(read_json(tmp_path / "numbers.json"))["digits/lenet5/lobster"]
    assert net.keys() == {"dense", "level-50"}
