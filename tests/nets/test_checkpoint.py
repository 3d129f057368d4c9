"""Checkpoints: lossless, small, checked, and refused with a clear message when they are not right."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpminima.base.errors import CheckpointError, SharpminimaError
from sharpminima.nets.checkpoint import load_checkpoint, load_tree, read_metadata, save_checkpoint, save_tree
from sharpminima.nets.masks import apply_masks, prunable_parameters
from sharpminima.nets.models import build_model
from sharpminima.nets.resume import FinishedParts, ResumeFile

FACTS = {"model": "lenet5", "dataset": "digits", "seed": 3, "metrics": [{"test_wrong": 4}]}


def pruned(seed: int, density: float, model_name: str = "lenet5") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model = build_model(model_name, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(model.named_parameters())
    masks = {
        name: torch.rand(parameters[name].shape, generator=generator) < density for name in prunable_parameters(model)
    }
    apply_masks(model, masks)
    return {name: value.clone() for name, value in model.state_dict().items()}, masks


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("model_name", ["lenet5", "resnet32"])
def test_round_trip_of_replicas_with_masks_of_their_own(tmp_path: Path, model_name: str) -> None:
    nets = [pruned(seed, 0.1 * (seed + 1), model_name) for seed in range(3)]
    save_checkpoint(tmp_path / "c", [s for s, _ in nets], masks=[m for _, m in nets], metadata=FACTS)
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.replicas == 3
    assert loaded.metadata["dataset"] == "digits"
    for replica, (state, masks) in enumerate(nets):
        assert_same(loaded.states[replica], state)
        assert_same(loaded.masks[replica], masks)
        assert_same(loaded.load_into(build_model(model_name, seed=9), replica).state_dict(), state)


def test_dense_round_trip(tmp_path: Path) -> None:
    state = build_model("lenet300").state_dict()
    save_checkpoint(tmp_path / "c", [state], metadata=FACTS)
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.masks is None
    assert_same(loaded.states[0], dict(state))


def test_a_weight_that_survives_as_zero_keeps_its_place(tmp_path: Path) -> None:
    state, masks = pruned(0, 0.5)
    state["fc2.weight"][masks["fc2.weight"]] = 0.0
    save_checkpoint(tmp_path / "c", [state], masks=[masks])
    loaded = load_checkpoint(tmp_path / "c")
    assert_same(loaded.states[0], state)
    assert_same(loaded.masks[0], masks)


def test_lenet5_at_99_57_percent_takes_kilobytes(tmp_path: Path) -> None:
    state, masks = pruned(0, 0.0043)
    save_checkpoint(tmp_path / "c", [state], masks=[masks], metadata=FACTS)
    entropy_bits = 431_080 * 0.040  # of a random mask of this density: the least that it can take
    assert (tmp_path / "c").stat().st_size < 4 * 0.0043 * 431_080 + 1.5 * entropy_bits / 8 + 4_000


def test_dense_weights_take_less_than_four_bytes_each(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", [build_model("lenet300").state_dict()], metadata=FACTS)
    assert (tmp_path / "c").stat().st_size < 0.9 * 4 * 266_610


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([[0.1, -0.0], [1e-42, 3e38]]),
        torch.tensor(7),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.tensor([1e-300], dtype=torch.float64),
    ],
    ids=lambda value: f"{value.dtype} {list(value.shape)}",
)
def test_every_dtype_and_shape_keeps_its_bits(tmp_path: Path, value: torch.Tensor) -> None:
    save_checkpoint(tmp_path / "c", [{"value": value}, {"value": value}])
    for state in load_checkpoint(tmp_path / "c").states:
        (found,) = state.values()
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.numpy().tobytes() == value.numpy().tobytes()


def test_replicas_that_share_a_mask_store_it_once(tmp_path: Path) -> None:
    state, masks = pruned(0, 0.0043)
    save_checkpoint(tmp_path / "one", [state], masks=[masks])
    save_checkpoint(tmp_path / "ten", [state] * 10, masks=[masks] * 10)
    survivors = sum(int(m.sum()) for m in masks.values()) * 4
    grown = (tmp_path / "ten").stat().st_size - (tmp_path / "one").stat().st_size
    assert grown < 9 * survivors + 1_000
    assert_same(load_checkpoint(tmp_path / "ten").states[9], state)


@pytest.mark.slow
def test_replicas_without_weights_keep_masks_and_predictions(tmp_path: Path) -> None:
    nets = [pruned(seed, 0.2, "resnet32") for seed in range(3)]
    predictions = torch.randint(0, 10, (2, 50), dtype=torch.uint8)
    masks = [mask for _, mask in nets]
    save_checkpoint(tmp_path / "c", [nets[0][0]], masks=masks, predictions=predictions, metadata=FACTS)
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.replicas == read_metadata(tmp_path / "c")["replicas"] == 3
    assert_same(loaded.states[0], nets[0][0])
    for replica in range(3):
        assert_same(loaded.masks[replica], masks[replica])
    assert torch.equal(loaded.predictions, predictions)
    model = build_model("resnet32")
    assert_same(loaded.load_into(model, 0).state_dict(), nets[0][0])
    with pytest.raises(CheckpointError, match="keeps the weights of 1, of the others masks, metrics and predictions"):
        loaded.load_into(model, 1)
    with pytest.raises(CheckpointError, match="has 3 replicas, and masks of 2"):
        save_checkpoint(tmp_path / "c", [nets[0][0]], masks=masks[:2], predictions=predictions)


@pytest.mark.parametrize("dense", [False, True])
def test_a_cell_without_weights_keeps_masks_and_predictions(tmp_path: Path, dense: bool) -> None:
    masks = None if dense else [pruned(seed, 0.2)[1] for seed in range(2)]
    predictions = torch.randint(0, 10, (2, 50), dtype=torch.uint8)
    save_checkpoint(tmp_path / "c", [], masks=masks, predictions=predictions, metadata=FACTS)
    loaded = load_checkpoint(tmp_path / "c")
    assert (loaded.replicas, loaded.states) == (2, [])
    assert torch.equal(loaded.predictions, predictions)
    if masks is None:
        assert loaded.masks is None
    else:
        for replica in range(2):
            assert_same(loaded.masks[replica], masks[replica])
    with pytest.raises(CheckpointError, match="keeps the weights of 0, of the others masks, metrics and predictions"):
        loaded.load_into(build_model("lenet300"), 0)
    with pytest.raises(CheckpointError, match="there is no replica to save"):
        save_checkpoint(tmp_path / "c", [], masks=masks and [], metadata=FACTS)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        state, masks = pruned(0, 0.1)
        save_checkpoint(tmp_path / name, [state], masks=[masks], metadata=FACTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("position", [0.02, 0.5, 0.999])
def test_one_flipped_byte_is_found(tmp_path: Path, position: float) -> None:
    path = tmp_path / "c"
    state, masks = pruned(0, 0.1)
    save_checkpoint(path, [state], masks=[masks], metadata=FACTS)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c: (is damaged|cannot be read|is not a checkpoint).*fetch it again"):
        load_checkpoint(path)


def test_truncated_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_checkpoint(path)
    save_checkpoint(path, [build_model("lenet300").state_dict()])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint of sharpminima"):
        load_checkpoint(path)


@pytest.mark.parametrize("old", [False, True])
def test_files_of_others_are_not_to_be_removed(tmp_path: Path, old: bool) -> None:
    """They may be the only copy of a net: the cure is to write them by `save_checkpoint`."""
    state = build_model("lenet300").state_dict()
    own, plain = tmp_path / "net.pt", tmp_path / "net.safetensors"
    torch.save(state, own, _use_new_zipfile_serialization=not old)
    with pytest.raises(
        CheckpointError, match=r"net\.pt: is a file of torch\.save, .* write them by `save_check"
    ) as said:
        load_checkpoint(own)
    assert "remove" not in str(said.value)
    from safetensors.torch import save_file

    save_file(state, plain)
    with pytest.raises(CheckpointError, match="not a checkpoint of sharpminima; load the weights of your own") as said:
        load_checkpoint(plain)
    assert "where a command has made it, remove it" in str(said.value)


def test_another_format_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpminima.nets.checkpoint.FORMAT_VERSION", 99)
    save_checkpoint(tmp_path / "c", [build_model("lenet300").state_dict()])
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has format 99, this version reads 2"):
        load_checkpoint(tmp_path / "c")


def test_metadata_is_read_without_the_tensors(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", [build_model("lenet300").state_dict()], metadata=FACTS)
    assert read_metadata(tmp_path / "c")["metrics"] == [{"test_wrong": 4}]


def test_nan_and_revived_weights_are_not_saved(tmp_path: Path) -> None:
    state, masks = pruned(0, 0.1)
    state["fc1.weight"][~masks["fc1.weight"]] = 1e-30
    with pytest.raises(CheckpointError, match=r"fc1.weight has removed weights that are not zero"):
        save_checkpoint(tmp_path / "c", [state], masks=[masks])
    state, masks = pruned(0, 0.1)
    state["conv1.bias"][0] = float("nan")
    with pytest.raises(CheckpointError, match=r"conv1.bias holds NaN or infinity"):
        save_checkpoint(tmp_path / "c", [state], masks=[masks])
    assert list(tmp_path.iterdir()) == []


def test_another_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", [build_model("lenet5").state_dict()], metadata=FACTS)
    with pytest.raises(CheckpointError, match="is of model 'lenet5' and does not fit"):
        load_checkpoint(tmp_path / "c").load_into(build_model("lenet300"))
    with pytest.raises(CheckpointError, match="replica 1 asked for, the checkpoint holds 1"):
        load_checkpoint(tmp_path / "c").load_into(build_model("lenet5"), 1)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SharpminimaError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "c", [build_model("lenet300").state_dict()])


def test_trees_round_trip_and_belong_to_their_fingerprint(tmp_path: Path) -> None:
    tree = {"epoch": 3, "best": float("inf"), "none": None, "list": [torch.arange(3), {"x": torch.ones(2, 2)}, (1, 2)]}
    save_tree(tmp_path / "t", tree, fingerprint="a")
    loaded = load_tree(tmp_path / "t", fingerprint="a")
    assert loaded["epoch"] == 3
    assert loaded["best"] == float("inf")
    assert loaded["none"] is None
    assert torch.equal(loaded["list"][0], torch.arange(3))
    assert torch.equal(loaded["list"][1]["x"], torch.ones(2, 2))
    assert loaded["list"][2] == [1, 2]
    assert load_tree(tmp_path / "t", fingerprint="b") is None
    assert load_tree(tmp_path / "absent", fingerprint="a") is None
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-1])
    assert load_tree(tmp_path / "t", fingerprint="a") is None


@pytest.mark.parametrize(("before", "after"), [('"lr": 0.1', '"lr": 0.9'), ('"epoch": 3', '"epoch": 4')])
def test_a_resume_file_whose_numbers_were_changed_is_not_gone_on_from(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "resume.safetensors"
    resume, parts = ResumeFile(path, fingerprint="a"), FinishedParts(tmp_path / "parts.safetensors", fingerprint="a")
    tree = {"epoch": 3, "lr": 0.1, "best": math.inf, "values": [torch.ones(2)]}
    resume.save(tree)
    parts.add({"epoch": 3, "lr": 0.1, "eigenvalue": -0.0})
    assert resume.load()["lr"] == 0.1
    assert FinishedParts(tmp_path / "parts.safetensors", fingerprint="a").parts == parts.parts
    for file in (path, tmp_path / "parts.safetensors"):
        content, was, now = file.read_bytes(), escaped(before), escaped(after)
        assert content.count(was) == 1
        file.write_bytes(content.replace(was, now))
    assert resume.load() is None
    assert FinishedParts(tmp_path / "parts.safetensors", fingerprint="a").parts == []


@pytest.mark.parametrize("masked", [False, True])
def test_a_colon_in_a_tensors_name_is_refused(tmp_path: Path, masked: bool) -> None:
    masks = [{"block:0.weight": torch.ones(2, dtype=torch.bool)}] if masked else None
    with pytest.raises(CheckpointError, match=r"'block:0\.weight' has a colon, which divides"):
        save_checkpoint(tmp_path / "c", [{"block:0.weight": torch.ones(2)}], masks=masks)
    assert not (tmp_path / "c").exists()


def escaped(text: str) -> bytes:
    """As it stands in a JSON string."""
    return text.replace('"', '\\"').encode()


def test_metadata_that_were_changed_are_not_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", [{"w": torch.ones(2)}], metadata={"metrics": [{"test_wrong": 4}]})
    assert read_metadata(tmp_path / "c") == load_checkpoint(tmp_path / "c").metadata | {
        name: read_metadata(tmp_path / "c")[name] for name in ("masked_shapes", "packed")
    }
    was, now = (escaped(f'"test_wrong": {wrong}') for wrong in (4, 2))
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes().replace(was, now))
    with pytest.raises(CheckpointError, match=r"c: is damaged \(its SHA-256 does not agree\)"):
        read_metadata(tmp_path / "c")


@pytest.mark.slow
def test_a_release_changes_no_bytes(tmp_path: Path) -> None:
    states = [{"fc.weight": torch.tensor([[0.0, 1.5], [0.0, -2.0]])}]
    masks = [{"fc.weight": states[0]["fc.weight"] != 0}]
    save_checkpoint(tmp_path / "now", states, masks=masks, metadata=FACTS)
    later = f"""
import sharpminima
sharpminima.__version__ = "9.9.9"
from sharpminima.nets.checkpoint import load_checkpoint, save_checkpoint
now = load_checkpoint({str(tmp_path / "now")!r})
save_checkpoint({str(tmp_path / "later")!r}, now.states, masks=now.masks, metadata={FACTS!r})
"""
    subprocess.run([sys.executable, "-c", later], check=True)
    assert (tmp_path / "later").read_bytes() == (tmp_path / "now").read_bytes()
    assert read_metadata(tmp_path / "now")["version"] == "0.1.0"  # as in the recorded files


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.uint8, torch.float32])
def test_states_of_any_precision_with_masks_of_any_dtype(tmp_path, dtype, mask_dtype):
    state = {"w": torch.tensor([0.0, 2.5, 0.0], dtype=dtype), "b": torch.ones(2, dtype=dtype)}
    save_checkpoint(tmp_path / "c", [state], masks=[{"w": torch.tensor([0, 1, 0]).to(mask_dtype)}])
    found = load_checkpoint(tmp_path / "c")
    assert found.states[0]["w"].dtype == dtype
    assert all(torch.equal(found.states[0][name], value) for name, value in state.items())
    assert found.masks[0]["w"].tolist() == [False, True, False]


def test_masks_that_their_state_lacks_are_refused(tmp_path):
    for masks, message in (
        ([{"v": torch.ones(3)}], "masks for v, which the state does not have"),
        ([{"w": torch.ones(2)}], r"the mask of w has shape \[2\]"),
        ([{"w": torch.full((3,), 0.5)}], "the mask of w holds other values than 0 and 1"),
    ):
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(tmp_path / "c", [{"w": torch.ones(3)}], masks=masks)
    two = [{"w": torch.ones(3)}] * 2
    with pytest.raises(CheckpointError, match="masks of different names"):
        save_checkpoint(tmp_path / "c", two, masks=[{"w": torch.ones(3)}, {}])


ONE = {"w": torch.ones(2), "b": torch.ones(1)}


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (ONE, "c: the states are no list of dictionaries; give a list"),
        ([ONE, torch.ones(2)], "c: the states are no list of dictionaries; give a list"),
        ([ONE, {"w": torch.ones(2)}], r"c: the replicas have states of different names \(b\); give each the same"),
        ([{"w": torch.ones(2)}, ONE], r"c: the replicas have states of different names \(b\); give each the same"),
        ([ONE, ONE | {"w": torch.ones(3)}], r"c: w is \[2\] \(torch.float32\) in the first replica, \[3\] "),
        ([ONE, ONE | {"w": torch.ones(2).double()}], r"replica, \[2\] \(torch.float64\) in replica 1; give each"),
        ([{"w": [1.0]}], "c: 'w' of the states is a list; give tensors"),
    ],
)
def test_replicas_that_do_not_fit_each_other_are_refused(tmp_path: Path, states: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(tmp_path / "c", states)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"w": torch.ones(2)}, "c: the masks are no list of dictionaries"),
        ([{"w": torch.ones(2)}, {"w": torch.ones(3)}], "the mask of w has shape"),
    ],
)
def test_masks_that_do_not_fit_each_other_are_refused(tmp_path: Path, masks: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(tmp_path / "c", [], masks=masks, predictions=torch.zeros(2, 5, dtype=torch.uint8))


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.ones(1), {1: 0, "1": 0}])
def test_metadata_that_are_no_json_values_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"c: the metadata are no JSON values .*; give finite numbers"):
        save_checkpoint(tmp_path / "c", [ONE], metadata={"loss": value})
