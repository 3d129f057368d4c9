"""Network slimming: Liu et al., "Learning efficient convolutional networks through network slimming", ICCV 2017.

An L1 penalty on the scale (gamma) of BatchNorm, one a unit; then the units with the smallest scale of all leave.
Where units pass no BatchNorm they get a gate, which starts at 1 and is multiplied into the weights at the end; this is
ours. A gate alone has no scale, since the weights before it may grow as it falls: such units are ranked by the gate
times the L2 norm of their incoming weights, which is of the size of 1 at the start in any layer, as gamma is. Where
residual additions join filters, a unit has the scales of several BatchNorms, and is ranked by their mean (ours; the
authors let each block select channels of its own).
"""

from torch import Tensor, no_grad, ones, stack

from sharpminima.base.errors import ConfigError
from sharpminima.catalogue.methods.penalty import SlimmingSettings
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.reparametrised import Learning, Reparametrised
from sharpminima.pruning.engine.search import SearchResult
from sharpminima.pruning.engine.total import total
from sharpminima.pruning.engine.trainings import fit
from sharpminima.pruning.engine.units import incoming, keep_best_units, units_of
from sharpminima.training import FlatModel


class Gated(Reparametrised):
    """The net with a gate a unit where there is no BatchNorm.

    Raises:
        ConfigError: units pass a BatchNorm that has no scale.
    """

    def __init__(self, run: Run, strength: float) -> None:
        super().__init__(run, "slimming")
        self._strength = strength
        self.groups = units_of(self.model)
        for group in self.groups:
            for norm in group.norms:
                if not self.model.get_submodule(norm).affine:
                    raise ConfigError(
                        f"slimming ranks units by the scale of BatchNorm, and {norm!r} has none: build it with "
                        "affine=True, or take another method"
                    )
            if not group.norms:
                weight = self.base(f"{next(iter(group.makers))}.weight")
                self.add(group.name, ones(group.count, dtype=weight.dtype, device=weight.device))

    def scales(self) -> dict[str, list[Tensor]]:
        """Gammas, or the gate [count], by group."""
        return {
            g.name: [self.base(f"{norm}.weight")[places] for norm, places in g.norms.items()] or [self.of(g.name)]
            for g in self.groups
        }

    def weights(self) -> dict[str, Tensor]:
        """Gates times weights and biases."""
        factors: dict[str, Tensor] = {}
        for group in self.groups:
            if not group.norms:
                gate = self.of(group.name)
                for layer, places in group.makers.items():
                    factor = factors.get(layer, gate.new_ones(len(self.base(f"{layer}.weight"))))
                    factors[layer] = factor.index_copy(0, places.to(gate.device), gate)
        parameters = dict(self.model.named_parameters())
        return {
            name: parameters[name] * factor.view(-1, *[1] * (parameters[name].ndim - 1))
            for layer, factor in factors.items()
            for name in (f"{layer}.weight", f"{layer}.bias")
            if name in parameters
        }

    @no_grad()
    def scores(self) -> dict[str, Tensor]:
        """Mean |gamma|, or |gate| times the L2 norm of incoming weights [count], by group."""
        norms = {group: weight.norm(dim=1) for group, weight in incoming(self.model, self.groups).items()}
        return {
            g.name: stack([scale.abs() for scale in self.scales()[g.name]]).mean(0)
            * (1.0 if g.norms else norms[g.name])
            for g in self.groups
        }

    def penalty(self) -> Tensor:
        """lambda times the sum over all units of |scale| []; lambda is the setting ``strength``."""
        return self._strength * total(scale.abs().sum() for scales in self.scales().values() for scale in scales)


def search(run: Run, level: float, settings: SlimmingSettings, resume: ResumeFile | None) -> SearchResult:
    """Train from W0 under the penalty; the units of smallest scale leave."""
    net = Gated(run, settings.strength)
    flat = FlatModel(net)
    history = fit(run, flat, Learning(run, settings, flat), settings, ("slimming", "search"), resume)
    masks = keep_best_units(net.model, net.scores(), level, settings.distribution, settings.floor)
    return SearchResult(net.folded(), masks, history)
