"""Noise that is log-normal within bounds, by which units are multiplied.

Neklyudov, Molchanov, Ashukha, Vetrov, "Structured Bayesian pruning via log-normal multiplicative noise", NeurIPS 2017.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOW, HIGH = -20.0, 0.0
"""Bounds of log theta."""
_FIRST, _LAST = 1e-300, 1 - 1e-16  # quantiles of the normal that float64 has
_LEAST = 1e-15  # of the squared ratio of noise to signal: rounding's own


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)); exact far out on the left, where ``low`` lies."""
    upper = torch.special.log_ndtr(high)
    return upper + torch.log1p(-(torch.special.log_ndtr(low) - upper).exp())


def _ratio(edge: Tensor) -> Tensor:
    """phi(edge) / Phi(edge); on the left as its quotient, since both vanish there."""
    left = math.sqrt(2 / math.pi) / torch.special.erfcx(-edge.clamp(max=0) / math.sqrt(2))
    right = (-edge.square() / 2 - torch.special.log_ndtr(edge)).exp() / math.sqrt(2 * math.pi)
    return torch.where(edge < 0, left, right)


@dataclass(frozen=True)
class TruncatedLogNormal:
    """exp of a normal variable within [-20, 0], elementwise.

    >>> noise = TruncatedLogNormal(torch.zeros(1), torch.full((1,), -5.0))
    >>> round(noise.mean().item(), 3), round(noise.kl().item(), 2)
    (0.995, 7.27)
    """

    mu: Tensor  # of the normal [n]
    log_sigma: Tensor  # [n]

    def _edges(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """mu, sigma, a and b, in float64."""
        mu, sigma = self.mu.double(), self.log_sigma.double().exp()
        return mu, sigma, (LOW - mu) / sigma, (HIGH - mu) / sigma

    def drawn(self, count: int, draws: torch.Generator) -> Tensor:
        """Samples [count, n], differentiable by mu and sigma, as quantiles of uniform ``draws`` (CPU)."""
        mu, sigma, a, b = self._edges()
        uniform = torch.rand(count, len(mu), generator=draws, dtype=torch.float64).to(mu.device)
        quantile = torch.special.ndtr(a) + uniform * _log_mass(a, b).exp()
        return (mu + sigma * torch.special.ndtri(quantile.clamp(_FIRST, _LAST))).clamp(LOW, HIGH).exp()

    def _log_moment(self, power: int) -> Tensor:
        """log E theta^power [n]."""
        mu, sigma, a, b = self._edges()
        shift = power * sigma
        return power * mu + shift.square() / 2 + _log_mass(a - shift, b - shift) - _log_mass(a, b)

    def mean(self) -> Tensor:
        """E theta [n], float64."""
        return self._log_moment(1).exp()

    def signal_to_noise(self) -> Tensor:
        """E theta / sqrt(Var theta) [n], float64."""
        return torch.expm1(self._log_moment(2) - 2 * self._log_moment(1)).clamp(min=_LEAST).rsqrt()

    def kl(self) -> Tensor:
        """KL to the log-uniform distribution within the same bounds [n], in nats; float64."""
        _, _, a, b = self._edges()
        log_mass = _log_mass(a, b)
        at_low = a * (-a.square() / 2 - log_mass).exp() / math.sqrt(2 * math.pi)
        at_high = b * _ratio(b) * (torch.special.log_ndtr(b) - log_mass).exp()
        prior = math.log(HIGH - LOW) - (math.log(2 * math.pi) + 1) / 2
        return -self.log_sigma.double() - log_mass - (at_low - at_high) / 2 + prior
