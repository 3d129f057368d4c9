"""`sharpminima plan`."""

from pathlib import Path

import pytest

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.study import jobs as names
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import Layout
from sharpminima.study.plan import Plan, describe, make_plan, read_components
from sharpminima.study.read import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def plan_of(study: str, results: Path, **components: int) -> tuple[Plan, Layout, Costs]:
    layout = Layout(*load_config({"study": study, "results": str(results)}))
    costs = Costs(layout)
    return (
        make_plan(layout, costs, {names.__dict__[f"{kind}_GROUP"]: n for kind, n in components.items()}),
        layout,
        costs,
    )


def test_steps_of_a_group_share_jobs(tmp_path: Path) -> None:
    """Demo: two nets with 9 cells in the run of seed 0 and 3 in those of seeds 1 and 2, and one with 3, 2 and 2."""
    alone = plan_of("demo", tmp_path)[0].jobs
    trained = {"dense": 9, "prune": 9, "retrain": 2 * (9 + 3 + 3) + 7, "transfer": 10}
    assert alone == {**trained, "analyse": 14, "figures": 7}
    together = {"DENSE": 3, "PRUNE": 2, "RETRAIN": 4, "TRANSFER": 4, "ANALYSIS": 6, "FIGURES": 10}
    shared = plan_of("demo", tmp_path, **together)[0].jobs
    trained = {"dense": 3, "prune": 6, "retrain": 2 * (3 + 1 + 1) + 3, "transfer": 3}
    assert shared == {**trained, "analyse": 3, "figures": 1}


def test_a_study_of_one_cell_by_hand(tmp_path: Path) -> None:
    study = tmp_path / "one.yaml"
    study.write_text(
        "{title: One, figures: [fig1], paper: false, experiments: [{dataset: digits, model: lenet300,"
        " method: {name: lobster, max_epochs: 100}, levels: [0.9], dense: {schedule: constant, max_epochs: 10},"
        " strategies: {reinit: {replicas: 3}}}]}"
    )
    plan, layout, costs = plan_of(str(study), tmp_path / "results")
    assert plan.jobs == {"dense": 1, "prune": 1, "retrain": 1, "figures": 1}
    epoch_s = 1294 / 56_800
    expected, at_most = (3600 * value for value in plan.hours(gpu=True))
    assert expected == pytest.approx(3 * 4 + (10.5 + 40.5 + 3 * 10.5) * epoch_s)
    assert at_most == pytest.approx(3 * 4 + (10.5 + 100.5 + 3 * 10.5) * epoch_s)
    printed = describe(plan, layout, costs)
    assert printed.startswith("one: 4 jobs to submit, 0 of 10 steps done")
    assert "lenet300 56,800; measured on 1 thread of an AMD EPYC" in printed
    for line in costs.assumptions():
        assert line in printed


def test_what_is_done_is_not_planned(tmp_path: Path) -> None:
    before, layout, _ = plan_of("demo", tmp_path)
    for path in (layout.prepared("digits"), layout.dense(dataset="digits", model="lenet5", seed=1)):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
    after, _, _ = plan_of("demo", tmp_path)
    assert after.done - before.done == 2
    assert before.jobs - after.jobs == {"dense": 1}


def test_the_slurm_profile_joins_groups_that_rules_name() -> None:
    components = read_components(ROOT / "profiles/slurm")
    assert set(components) == {
        *(names.DENSE_GROUP, names.PRUNE_GROUP, names.RETRAIN_GROUP, names.TRANSFER_GROUP),
        *(names.ANALYSIS_GROUP, names.FIGURES_GROUP),
    }  # fmt: skip
    assert components[names.ANALYSIS_GROUP] == len(ANALYSES)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (None, "is not here; give the folder of a profile"),
        ("group-components: [dense=3]", "group-components: .* given; give a number from 1 on"),
        ("group-components: {dense: many}", "group-components: .* given; give a number from 1 on"),
        ("group-components: {dense: 0}", "group-components: .* given; give a number from 1 on"),
        ("[executor, slurm]", "a mapping is needed"),
        ("default-resources:\n  runtime: 30\n   slurm_partition: gpu", "is not YAML"),
    ],
)
def test_a_profile_without_numbers_is_an_error(tmp_path: Path, entry: str | None, fault: str) -> None:
    if entry is not None:
        (tmp_path / "config.yaml").write_text(entry)
    with pytest.raises(ConfigError, match=rf"config\.yaml: {fault}"):
        read_components(tmp_path)
