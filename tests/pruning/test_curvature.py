"""The Gauss-Newton diagonal against full Jacobians."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from training.cases import build, images_of

from sharpminima.base.errors import ConfigError
from sharpminima.data import Split
from sharpminima.nets.masks import all_masks
from sharpminima.pruning.engine import curvature
from sharpminima.pruning.engine.criteria import Candidate, draw_sample, obd
from sharpminima.pruning.engine.curvature import gauss_newton_diagonal
from sharpminima.testing.task import small_run


def by_jacobians(model: nn.Module, weights: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """1/N sum_n of the diagonal of J^T (diag(p) - p p^T) J, written out."""
    model = model.eval()
    found = {}
    for name, weight in weights.items():
        jacobian = torch.autograd.functional.jacobian(
            lambda w, name=name: functional_call(model, {**weights, name: w}, (images,)), weight
        ).flatten(2)  # [N, classes, elements]
        p = model_outputs(model, weights, images).softmax(1)
        h = p.diag_embed() - p[:, :, None] * p[:, None, :]
        found[name] = torch.einsum("nci,ncd,ndi->i", jacobian, h, jacobian).view(weight.shape) / len(images)
    return found


def model_outputs(model: nn.Module, weights: dict[str, Tensor], images: Tensor) -> Tensor:
    return functional_call(model, weights, (images,)).detach()


def grouped() -> nn.Module:
    """Groups, strides, padding by reflection, and a ReLU in place."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(54, 3),
    ).double()


@pytest.mark.parametrize("kind", ["linear", "convolutional", "batchnorm", "residual", "grouped"])
def test_the_diagonal_is_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = grouped() if kind == "grouped" else build(kind)
    sample = images_of(kind, 6, 1)
    model.train()
    for _ in range(3):
        model(sample.images)  # running statistics other than 0 and 1
    weights = {
        name: p.detach().clone() for name, p in model.named_parameters() if name in all_masks(model, biases=True)
    }
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = gauss_newton_diagonal(model, weights, sample)
    assert model.training
    assert all(torch.equal(statistics[name], buffer) for name, buffer in model.named_buffers())
    expected = by_jacobians(model, weights, sample.images)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
        assert (found[name] >= 0).all()
    monkeypatch.setattr(curvature, "_ELEMENTS", 1)  # an image at a time
    for name, again in gauss_newton_diagonal(model, weights, sample).items():
        torch.testing.assert_close(again, expected[name])


def test_obd_draws_nothing_and_samples_agree() -> None:
    """Equal images, equal scores, whatever generator; other images rank the weights alike (rank correlation)."""
    run = small_run()
    masks = all_masks(run.model)

    def scores(sample: Split, seed: int) -> Tensor:
        found = obd(Candidate(run.model, masks, sample, torch.Generator().manual_seed(seed), 1))
        return torch.cat([score.flatten() for score in found.values()])

    first, second = (draw_sample(run.training, 30, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert torch.equal(scores(first, 0), scores(first, 1))
    ranks = torch.stack([scores(sample, 0).argsort().argsort().double() for sample in (first, second)])
    assert torch.corrcoef(ranks)[0, 1] > 0.98
    assert (scores(first, 0) > 0).all()


def test_a_layer_that_acts_twice_is_refused() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer)
    sample = Split(torch.ones(2, 1, 2, 2), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match=r"layer '1' acts 2 times .* take another criterion"):
        gauss_newton_diagonal(model, {"1.weight": layer.weight.detach()}, sample)


def test_rows_that_are_not_the_images_are_refused() -> None:
    """Tokens folded into the batch: gradients of an image would be taken for those of its tokens."""

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.last = nn.Linear(2, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.embed(x.reshape(-1, 2)).relu().reshape(len(x), -1, 3).mean(1))

    model = Folded()
    weights = {"embed.weight": model.embed.weight.detach()}
    with pytest.raises(ConfigError, match=r"layer 'embed' takes 4 rows for 2 images.*take another criterion"):
        gauss_newton_diagonal(model, weights, Split(torch.ones(2, 1, 2, 2), torch.tensor([0, 1])))
