"""Survivors shared out over layers, in exactly the number asked for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sharpminima.catalogue.methods.choices import DISTRIBUTIONS
from sharpminima.nets.masks import count
from sharpminima.nets.models import build_model
from sharpminima.pruning.engine.distribution import erk_densities, keep_best, survivors_at

SHAPES = {"a": (4, 1, 3, 3), "b": (6, 4), "c": (2, 6)}


def scores(seed: int) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=draws) for name, shape in SHAPES.items()}


@given(survivors=st.integers(1, 72), distribution=st.sampled_from(DISTRIBUTIONS), seed=st.integers(0, 20))
def test_exactly_so_many_survive(survivors: int, distribution: str, seed: int) -> None:
    assert count(keep_best(scores(seed), survivors, distribution)) == (survivors, 72)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_within_a_tensor_the_highest_stay(distribution: str) -> None:
    given_scores = scores(3)
    for name, mask in keep_best(given_scores, 30, distribution).items():
        if mask.any() and not mask.all():
            assert given_scores[name][mask].min() >= given_scores[name][~mask].max()


def test_global_looks_across_tensors_and_takes_the_first_of_equals() -> None:
    masks = keep_best({"a": torch.tensor([0.1, 0.9]), "b": torch.tensor([[0.8], [0.9]])}, 2, "global")
    assert masks["a"].tolist() == [False, True]
    assert masks["b"].tolist() == [[False], [True]]
    masks = keep_best({"a": torch.zeros(3), "b": torch.zeros(2)}, 2, "global")
    assert masks["a"].tolist() == [True, True, False]
    assert not masks["b"].any()


@pytest.mark.parametrize("distribution", ["layerwise", "erk"])
def test_what_has_left_stays_away_though_a_share_grows(distribution: str) -> None:
    """Rows of 3, 5 and 5: of 7 survivors the shares are 1.6, 2.7, 2.7, so 1, 3, 3; of 6 1.4, 2.3, 2.3, so 2, 2, 2."""
    given_scores = {name: torch.arange(size, 0, -1.0)[None] for name, size in (("a", 3), ("b", 5), ("c", 5))}
    if distribution == "layerwise":
        seven = keep_best(given_scores, 7, distribution)
        assert [int(mask.sum()) for mask in seven.values()] == [1, 3, 3]
        assert [int(mask.sum()) for mask in keep_best(given_scores, 6, distribution).values()] == [2, 2, 2]
        six = keep_best(given_scores, 6, distribution, seven)
        assert [int(mask.sum()) for mask in six.values()] == [1, 3, 2]  # the rest goes to another
    alive = {name: torch.ones_like(score, dtype=torch.bool) for name, score in given_scores.items()}
    for survivors in range(13, 0, -1):
        kept = keep_best(given_scores, survivors, distribution, alive)
        assert count(kept)[0] == survivors
        assert not any((kept[name] & ~alive[name]).any() for name in kept)
        alive = kept


def test_no_more_can_stay_than_are_alive() -> None:
    alive = {name: torch.zeros_like(score, dtype=torch.bool) for name, score in scores(0).items()}
    alive["b"][0] = True
    assert count(keep_best(scores(0), 4, "layerwise", alive))[0] == 4
    with pytest.raises(ValueError, match="5 are to be shared out, and there are 4; ask for no more"):
        keep_best(scores(0), 5, "layerwise", alive)


def test_layerwise_gives_every_tensor_the_same_density() -> None:
    masks = keep_best(scores(0), 36, "layerwise")
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"a": 18, "b": 12, "c": 6}


def test_erk_by_hand() -> None:
    """Raw 6/8 and 9/8 of 8 weights each, 15 in all; 8 survive, so 8 * 6 / 15 and 8 * 9 / 15 of them."""
    shapes = {"a": torch.Size((8, 2)), "b": torch.Size((4, 2, 2))}
    densities = erk_densities({"a": torch.Size((2, 4)), "b": torch.Size((1, 8))}, 0.5)
    assert densities["a"] == pytest.approx(0.5 * 16 * (6 / 8) / (6 + 9))
    assert densities["b"] == pytest.approx(0.5 * 16 * (9 / 8) / (6 + 9))
    assert sum(densities[n] * s.numel() for n, s in {"a": torch.Size((2, 4)), "b": torch.Size((1, 8))}.items()) == 8
    assert erk_densities(shapes, 1.0) == {"a": 1.0, "b": 1.0}


def test_erk_fills_small_tensors_and_shares_the_rest_anew() -> None:
    shapes = {name: p.shape for name, p in build_model("lenet5").named_parameters() if p.ndim > 1}
    densities = erk_densities(shapes, 0.1)
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    assert densities["conv1.weight"] == 1.0
    assert sum(densities[n] * sizes[n] for n in sizes) == pytest.approx(0.1 * sum(sizes.values()))
    partial = {n for n in sizes if densities[n] < 1.0}
    ratios = [densities[n] * sizes[n] / sum(shapes[n]) for n in partial]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_survivors_of_a_level() -> None:
    assert survivors_at(0.98, 266_200) == 5324
    assert survivors_at(0.9999, 100) == 1
