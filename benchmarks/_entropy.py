"""PSP-entropy of LeNet-5: first and second order against the usual ways, and growth with neurons, samples and order."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._pruned import MASKS, described, load_pruned, timed
from sharpminima.analysis import PspStatistics, psp_entropy, psp_statistics
from sharpminima.analysis.psp._joint import JointStates, entropy_terms, pair_histogram
from sharpminima.analysis.psp._states import pack, unpack
from sharpminima.data import Split
from sharpminima.data.prepare import DEFAULT_ROOT
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.models import build_model
from sharpminima.runtime.rng import generator

DENSE = "0"  # the level of a net without masks: freshly initialised, so that nearly every neuron varies
_GROWTH = {  # what grows -> (neurons, samples, order)
    "neurons": [(1000, 1000, 2), (2000, 1000, 2), (4000, 1000, 2), (8000, 1000, 2)],
    "samples": [(2000, 1000, 2), (2000, 4000, 2), (2000, 16000, 2)],
    "order": [(100, 1000, 2), (100, 1000, 3), (100, 1000, 4)],
}
_ROWS = 512  # of a block of pairs that the float way forms at once


def entropy(
    level_names: Sequence[str] = (DENSE, "98", "99.57"),
    *,
    images: int = 10_000,
    repeats: int = 3,
    slow_ways: bool = True,
    growth: float = 1.0,
    data: Path = DEFAULT_ROOT,
    masks: Path = MASKS,
    device: str = "cpu",
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Rows of the tables: orders 1 and 2 at each level, and growth on random states.

    Args:
        level_names: percent removed; `DENSE` for the whole net.
        slow_ways: matrix products too, which take a minute at `DENSE`.
        growth: a factor on the neurons of the growth table; 0 leaves it out.
    """
    options: dict[str, Any] = {"data": data, "masks": masks, "device": device, "threads": threads}
    rows: list[dict[str, Any]] = []
    for level_name in level_names:
        net = load_pruned("98" if level_name == DENSE else level_name, images, **options)
        model = build_model("lenet5", seed=1).to(net.split.images.device).eval() if level_name == DENSE else net.model
        for row in (*_first_order(model, net.split, repeats), *_second_order(model, net.split, repeats, slow_ways)):
            rows.append(
                {
                    "level": level_name,
                    "device": device,
                    "threads": threads,
                    "images": images,
                    "synthetic": net.synthetic,
                }
                | row
            )
            print(_line(rows[-1]), file=sys.stderr, flush=True)
    if growth:
        rows += _growth_rows(growth, repeats)
    return rows


# First order ------------------------------------------------------------------------------------------------------


def _first_order(model: nn.Module, split: Split, repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds from images to entropies: the usual way once, ours and the forward pass alone at their best."""
    usual_seconds, usual = timed(lambda: _hooks_and_loops(model, split))
    seconds, ours = min((timed(lambda: psp_entropy(model, split.images, split.labels)) for _ in range(repeats)), key=_0)
    forward = min(timed(lambda: evaluate(model, split.images, split.labels))[0] for _ in range(repeats))
    assert ours.per_neuron is not None
    worst = max(float((ours.per_neuron[name] - values).abs().max()) for name, values in usual.items())
    yield {"table": "first order", "way": "hooks and loops", "seconds": usual_seconds, "difference_bits": None}
    yield {"table": "first order", "way": "ours", "seconds": seconds, "difference_bits": worst}
    yield {"table": "first order", "way": "the forward pass alone", "seconds": forward, "difference_bits": None}


def _0(pair: tuple[float, Any]) -> float:
    return pair[0]


@torch.no_grad()
def _hooks_and_loops(model: nn.Module, split: Split) -> dict[str, Tensor]:
    """The usual way: hooks keep every ReLU's input, and loops over classes and neurons count; layer -> H(z_i|c)."""
    kept: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, inputs, output, name=name: kept.setdefault(name, []).append(inputs[0].flatten(1).clone())
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    for batch in split.images.split(100):
        model(batch)
    for hook in hooks:
        hook.remove()
    by_layer = {}
    for name, batches in kept.items():
        z = torch.cat(batches)
        entropies = torch.zeros(int(split.labels.max()) + 1, z.shape[1], dtype=torch.float64)
        for label in range(len(entropies)):
            of_class = z[split.labels == label]
            for neuron in range(z.shape[1]):
                p = (of_class[:, neuron] > 0).double().mean().item()
                for share in (p, 1 - p):
                    if share > 0:
                        entropies[label, neuron] -= share * math.log2(share)
        by_layer[name] = entropies
    return by_layer


# Second order -----------------------------------------------------------------------------------------------------


def _second_order(model: nn.Module, split: Split, repeats: int, slow_ways: bool) -> Iterator[dict[str, Any]]:
    """Seconds from states to the joint entropies of all pairs, and of ours also from the images on."""
    whole = min(timed(lambda: psp_entropy(model, split.images, split.labels, order=2))[0] for _ in range(repeats))
    statistics = psp_statistics(model, split.images, split.labels, pairs=True)
    varying = sum(int(_varying(statistics, name).sum()) for name in statistics.layers) / len(statistics.class_sizes)
    seconds, ours = min((timed(lambda: statistics.entropy(2).mean) for _ in range(repeats)), key=_0)
    common = {"table": "second order", "varying": varying}
    yield {**common, "way": "ours, from the images on", "seconds": whole, "mean_bits": ours, "difference": None}
    yield {**common, "way": "ours", "seconds": seconds, "mean_bits": ours, "difference": None}
    ways: dict[str, Callable[[Tensor], float]] = {
        "int8 matrix products": lambda states: _by_int8(states),
        "float32 matrix products": lambda states: _by_float(states),
    }
    for name, way in ways.items() if slow_ways else ():
        seconds, mean = timed(lambda way=way: _mean(statistics, way))
        yield {**common, "way": name, "seconds": seconds, "mean_bits": mean, "difference": abs(mean - ours)}


def _varying(statistics: PspStatistics, name: str) -> Tensor:
    active = statistics.layers[name].active
    return (active > 0) & (active < statistics.class_sizes[:, None])


def _mean(statistics: PspStatistics, pair_sum: Callable[[Tensor], float]) -> float:
    """The joint entropy of order 2; ``pair_sum`` takes states uint8 [samples, neurons] and sums that of all pairs."""
    means = []
    for name, layer in statistics.layers.items():
        neurons, varying, total = layer.active.shape[1], _varying(statistics, name), 0.0
        assert layer.states is not None
        for label, size in enumerate(statistics.class_sizes.tolist()):
            chosen = varying[label]
            states = unpack(layer.states[statistics.labels == label], neurons)[:, chosen]
            p = layer.active[label, chosen].double() / size
            own = float(-(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)).sum()) / math.log(2)
            # A pair with a neuron that is constant in the class has the entropy of the other.
            total += pair_sum(states) + own * (neurons - int(chosen.sum()))
        means.append(total / math.comb(neurons, 2))
    return sum(means) / len(means)


def _by_int8(states: Tensor) -> float:
    """Counts by int8 products, exact in int32, and their histogram: what ours does on CUDA."""
    return float(pair_histogram(states).cpu().double() @ entropy_terms(len(states)))


def _by_float(states: Tensor) -> float:
    """The plain way: counts by a float32 product (exact below 2^24), entropies of each pair in float64."""
    ones, samples, total = states.float(), len(states), 0.0
    active = ones.sum(dim=0).double()
    for start in range(0, ones.shape[1], _ROWS):
        both = (ones[:, start : start + _ROWS].T @ ones).double()
        first, second = active[start : start + _ROWS, None], active[None]
        joint = torch.stack([both, first - both, second - both, samples - first - second + both]) / samples
        entropies = -torch.special.xlogy(joint, joint).sum(dim=0) / math.log(2)
        total += float(entropies.sum() - entropies.diagonal(offset=start).sum()) / 2
    return total


# Growth -----------------------------------------------------------------------------------------------------------


def _growth_rows(factor: float, repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds of the joint entropies of one class's random states, each 1 with a probability of its own."""
    draws = generator(0, "benchmark", "states")
    for what, sizes in _GROWTH.items():
        for full, samples, order in sizes:
            neurons = max(order, round(factor * full))
            states = torch.rand(samples, neurons, generator=draws) < torch.rand(neurons, generator=draws)
            # Made anew each time: turning the states into words is part of the work.
            chosen, packed = torch.ones(neurons, dtype=torch.bool), pack(states)
            seconds = min(
                timed(lambda packed=packed, chosen=chosen, k=order: JointStates(packed, chosen).entropy_sum(k))[0]
                for _ in range(repeats)
            )
            yield {
                "table": "growth",
                "what": what,
                "neurons": neurons,
                "samples": samples,
                "order": order,
                "tuples": math.comb(neurons, order),
                "seconds": seconds,
            }


# Output -----------------------------------------------------------------------------------------------------------


def _line(row: dict[str, Any]) -> str:
    start = f"{row.get('way', ''):26} {row['seconds']:8.3f} s"
    if row["table"] == "first order":
        difference = row["difference_bits"]
        return start + ("" if difference is None else f"  largest difference {difference:.0e} bits")
    if row["table"] == "second order":
        difference = row["difference"]
        end = "" if difference is None else f"  difference of the mean {difference:.0e} bits"
        return f"{start}  {row['varying']:.0f} neurons vary within a class{end}"
    rate = row["tuples"] * row["samples"] / row["seconds"] / 1e9
    return (
        f"{row['what']:8} {row['neurons']:6} neurons {row['samples']:6} samples  order {row['order']}  "
        f"{row['seconds']:8.4f} s  {rate:8.0f} G tuples x samples/s"
    )


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = []
    for level_name in dict.fromkeys(row["level"] for row in rows if "level" in row):
        for table, title in (
            ("first order", "First order, from the images to all entropies"),
            ("second order", "Second order, joint, all pairs: from the states on"),
        ):
            chosen = [row for row in rows if row.get("level") == level_name and row["table"] == table]
            note = " (freshly initialised, dense)" if level_name == DENSE else ""
            lines += ["", f"{title}: {described(chosen[0])}{note}", *(f"  {_line(row)}" for row in chosen)]
            if table == "first order":
                usual, ours, forward = (row["seconds"] for row in chosen)
                lines.append(
                    f"  {usual / ours:.1f} x as fast; without the forward pass, which both make, "
                    f"{(usual - forward) / max(ours - forward, 1e-9):.0f} x"
                )
    grown = [row for row in rows if row["table"] == "growth"]
    return "\n".join([*lines, *(["", "Growth, on random states of one class:"] if grown else []), *map(_line, grown)])
