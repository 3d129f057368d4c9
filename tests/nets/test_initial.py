"""W0 is its seed, and what is read is what was written."""

from pathlib import Path

import pytest
import torch

from sharpminima.base.errors import CheckpointError
from sharpminima.nets import initial
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
from sharpminima.nets.initial import load_initial, read_initial, save_initial
from sharpminima.nets.models import build_model
from sharpminima.runtime.rng import derive_seed

FACTS = {"model": "lenet300", "num_classes": 7, "seed": 3}


def test_the_weights_are_drawn_from_the_seed_again(tmp_path: Path) -> None:
    path = tmp_path / "w0"
    save_initial(path, FACTS)
    assert path.stat().st_size < 1_000
    found = load_initial(path)
    expected = build_model("lenet300", num_classes=7, seed=derive_seed(3, "init")).state_dict()
    (state,) = found.states
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert found.masks is None
    assert {**FACTS, "strategy": "init"}.items() <= found.metadata.items()
    assert found.load_into(build_model("lenet300", num_classes=7)) is not None


def test_runs_have_a_w0_of_their_own(tmp_path: Path) -> None:
    states = []
    for seed in (3, 4):
        save_initial(tmp_path / str(seed), {**FACTS, "seed": seed})
        states.append(load_initial(tmp_path / str(seed)).states[0])
    assert not torch.equal(states[0]["1.weight"], states[1]["1.weight"])


def test_a_machine_that_draws_other_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w0"
    save_initial(path, FACTS)
    monkeypatch.setattr(initial, "derive_seed", lambda *_: 0)
    with pytest.raises(CheckpointError, match=r"w0: its seed gives other weights here.*remove it"):
        load_initial(path)


def test_a_net_with_weights_may_stand_for_w0(tmp_path: Path) -> None:
    state = build_model("lenet300", seed=1).state_dict()
    save_checkpoint(tmp_path / "c", [state], metadata=FACTS)
    assert torch.equal(load_initial(tmp_path / "c").states[0]["1.weight"], state["1.weight"])


@pytest.mark.parametrize("name", ["model", "seed"])
def test_a_net_that_stands_for_w0_says_its_model_and_seed(tmp_path: Path, name: str) -> None:
    facts = {key: value for key, value in FACTS.items() if key != name}
    save_checkpoint(tmp_path / "c", [build_model("lenet300").state_dict()], metadata=facts)
    for read in (load_initial, read_initial):
        with pytest.raises(CheckpointError, match=f"c: its metadata lack {name}; state them where it is saved"):
            read(tmp_path / "c")


def test_a_net_that_keeps_no_weights_is_no_start(tmp_path: Path) -> None:
    facts = {"model": "lenet300", "seed": 3, "strategy": "dense"}
    save_checkpoint(tmp_path / "c", [], metadata=facts, predictions=torch.zeros(1, 5, dtype=torch.uint8))
    with pytest.raises(CheckpointError, match="c: keeps no weights to start from; give W0"):
        load_initial(tmp_path / "c")
    save_checkpoint(tmp_path / "drawn", [], metadata=facts | {"drawn_sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="drawn: its metadata lack num_classes; "):
        load_initial(tmp_path / "drawn")


def test_w0_alone_holds_no_weights(tmp_path: Path) -> None:
    save_initial(tmp_path / "w0", FACTS)
    assert load_checkpoint(tmp_path / "w0").states == []
    with pytest.raises(CheckpointError, match="there is no replica to save"):
        save_checkpoint(tmp_path / "c", [], metadata=FACTS)
