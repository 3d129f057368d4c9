"""Network slimming: Liu et al., "Learning efficient convolutional networks through network slimming", ICCV 2017.

An L1 penalty on the scale (gamma) of BatchNorm, one a unit; then the units with the smallest scale of all leave.
Where a layer has no BatchNorm, its units get a gate in the same place, which starts at 1 and is multiplied into the
weights at the end.
"""

from torch import Tensor, ones

from sharpminima.catalogue.methods.penalty import SlimmingSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised
from sharpminima.pruning.engine.search import Found
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.engine.trainings import fit
from sharpminima.pruning.engine.units import keep_best_units, units_of
from sharpminima.training import FlatModel


class Gated(Reparametrised):
    """The net with a gate a unit where there is no BatchNorm."""

    def __init__(self, run: Run, strength: float) -> None:
        super().__init__(run, "slimming")
        self._strength = strength
        self.groups = units_of(self.model)
        for group in self.groups:
            if not group.norms:
                weight = self.base(f"{group.layer}.weight")
                self.add(group.layer, ones(group.count, dtype=weight.dtype, device=weight.device))

    def scales(self) -> dict[str, Tensor]:
        """Gamma or gate [count], by layer."""
        return {g.layer: self.base(f"{g.norms[0]}.weight") if g.norms else self.of(g.layer) for g in self.groups}

    def weights(self) -> dict[str, Tensor]:
        """Gates times weights and biases."""
        gated = {}
        for group in self.groups:
            if not group.norms:
                for name in (f"{group.layer}.weight", f"{group.layer}.bias"):
                    if name in dict(self.model.named_parameters()):
                        gate, parameter = self.of(group.layer), self.base(name)
                        gated[name] = parameter * gate.view(-1, *[1] * (parameter.ndim - 1))
        return gated

    def penalty(self) -> Tensor:
        """lambda times the sum over all units of |scale| []; lambda is the setting ``strength``."""
        return self._strength * total(scale.abs().sum() for scale in self.scales().values())


def search(run: Run, level: float, settings: SlimmingSettings, resume: ResumeFile | None) -> Found:
    """Train from W0 under the penalty; the units of smallest scale leave."""
    net = Gated(run, settings.strength)
    flat = FlatModel(net)
    history = fit(run, flat, Learning(run, settings, flat), settings, ("slimming", "search"), resume)
    scores = {layer: scale.abs() for layer, scale in net.scales().items()}
    masks = keep_best_units(net.model, scores, level, settings.distribution)
    return Found(net.folded(), masks, history)
