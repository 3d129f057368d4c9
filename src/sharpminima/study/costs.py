"""What each step takes: seconds, memory and disk, from measurements.

The rules ask a cluster for memory and time by them, and ``sharpminima plan`` adds them up. Sizes of nets, epochs of
methods and recipes, and passes of analyses are what the catalogue says; all numbers were measured on one thread of an
AMD EPYC (AVX-512, torch 2.13) whose other core was busy:

- images a second: ``python -m benchmarks.training --threads 1``, an epoch with its validation, dense nets (for
  mlp3x400, which that does not know: ``sharpminima dense`` of 1 and of 6 epochs on MNIST).
- analyses, in passes of training over the images they look at: LeNet-300 and LeNet-5 on MNIST at 99.57 %, the dearer.
- epochs: LOBSTER in the demo and in the two runs behind ``benchmarks/masks``; the recipe of the paper study on
  LeNet-300 and MNIST, dense and rewound at 90 and 99.57 %.
- memory: the highest resident size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sharpminima.base.errors import ConfigError, SharpminimaError
from sharpminima.base.files import read_json
from sharpminima.catalogue.analyses import ANALYSES, of_dense
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.methods.gradual import LOBSTER_SHARE
from sharpminima.catalogue.models import MODELS, unlabelled
from sharpminima.catalogue.recipes import BEST_EPOCH
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.study.jobs import Layout
from sharpminima.study.schema import Experiment

_IMAGES_PER_S = {"lenet300": 56_800.0, "lenet5": 4_060.0, "mlp3x400": 21_600.0, "resnet32": 196.0}
_BFLOAT16_TIMES = {"lenet300": 0.8, "lenet5": 1.9, "resnet32": 2.1}
"""Model -> how many times faster training is in bfloat16 than in float32: one thread of a Xeon with AMX."""
_ENTROPY_TIMES = {"lenet300": 1.4, "lenet5": 1.25}
"""Model -> how many times as long a step takes with first-order PSP-entropy in what it minimises."""
_METHOD_TIMES = {
    "global_sparse_momentum": {"lenet300": 4.0, "lenet5": 1.5},
    "joint_sparsity": {"lenet300": 5.0, "lenet5": 1.6},
    "bayesian_compression": {"lenet300": 6.0, "lenet5": 2.5},
    "structured_bayesian": {"lenet300": 6.5, "lenet5": 1.3},
    "soft_weight_sharing": {"lenet300": 7.0, "lenet5": 2.4},
}
"""Method -> model -> how many times as long as a plain one a step of its search takes, where that is much longer.

Of 100 images, on one thread of a Xeon whose other was busy; soft_weight_sharing's by its penalty alone.
"""
_NET_MB = {"lenet300": 50.0, "lenet5": 220.0, "mlp3x400": 50.0, "resnet32": 650.0}
"""Model -> parameters, activations and gradients of one mini-batch."""
_PSP_KB = {"lenet300": 0.0, "lenet5": 27.0, "mlp3x400": 0.0, "resnet32": 27.0}
"""Model -> what the PSP statistics hold for each image; resnet32 was not measured."""
_PROCESS_MB = 250.0  # Python with torch
_CUDA_MB = 3_000.0  # host memory for CUDA's libraries: an allowance, not measured
_START_S = 4.0  # Python, torch, and the data
_EVALUATIONS = 0.5  # of the final net on all parts, in epochs
_FLOAT = 4  # bytes of a value
_PACKED = 0.86  # of them in a checkpoint; 0.82 to 0.88 measured
_PACKED_MASK = 1.25  # bits of a packed mask, per bit of entropy; 1.04 to 1.35 measured of random ones
_HEADER_BYTES = 5_000  # of a checkpoint's facts, and of those of each replica
_FIGURE_BYTES = 600_000  # PDF, SVG and notebook
_PAGE_BYTES = 5_000_000  # nearly all of it what draws it
_RESUMED = 4  # vectors in a resume file: values, mask, momentum, best; one more for each level or finished replica

_MARGIN = 2.0  # what is asked for, over what was measured
_SPARE_MIN = 10  # for a cold start from a network drive
_LONGEST_MIN = 24 * 60  # asked for at first: a training that is cut off goes on from its resume file


@dataclass(frozen=True)
class Cost:
    """One step's time and memory."""

    expected_s: float
    at_most_s: float  # where every training uses all its epochs
    peak_mb: float  # of host memory, on a CPU
    gpu: bool  # whether it holds a GPU slot

    def mem_mb(self, attempt: int = 1) -> int:
        """Memory to ask for, MB: twice the peak, and CUDA's; as much again with each further attempt."""
        return 500 * math.ceil((_MARGIN * self.peak_mb + _CUDA_MB * self.gpu) / 500) * attempt

    def runtime(self, attempt: int = 1) -> int:
        """Time to ask for, minutes: twice the longest, at first a day at most; as much again with each attempt."""
        return min(math.ceil(_MARGIN * self.at_most_s / 60) + _SPARE_MIN, _LONGEST_MIN) * attempt


@dataclass(frozen=True)
class Throughput:
    """How fast a machine trains."""

    origin: str  # which machine, measured where
    images_per_s: Mapping[str, float]  # model -> training images of an epoch with its validation, dense net
    batched_per_s: Mapping[str, float]  # model -> the same, of all replicas of one batched model together
    bfloat16_per_s: Mapping[str, float] = field(default_factory=dict)  # as `images_per_s`, trained in bfloat16
    on_gpu: bool = False

    @classmethod
    def from_benchmark(cls, path: Path) -> "Throughput":
        """What ``python -m benchmarks.training --json PATH`` has written.

        Raises:
            ConfigError: the file is not of that kind.
        """
        single, batched, coarser = {}, {}, {}
        try:
            benchmark = read_json(path)
            machine, settings = benchmark["machine"], benchmark["settings"]
            for model, measured in benchmark["models"].items():
                for row in measured["variants"]:
                    if row["name"] == DENSE:
                        single[model] = row["epoch_images_per_second"]
                    elif row["name"] == BFLOAT16:
                        coarser[model] = row["epoch_images_per_second"]
                    elif row["replicas"] > 1 and row["name"].endswith("batched"):
                        batched[model] = row["epoch_images_per_second"]
            on_gpu = settings["device"] == "cuda"
            device = machine["gpu"] if on_gpu else f"{settings['threads']} threads of {machine['processor']}"
        except (SharpminimaError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: is no file that `python -m benchmarks.training --json FILE` wrote") from error
        return cls(f"{device} ({path})", single, batched, coarser, on_gpu)


DENSE, BFLOAT16 = "ours, dense", "ours, dense, bfloat16"
"""Lines of ``python -m benchmarks.training``, from which `Throughput.from_benchmark` reads."""
MEASURED = Throughput("1 thread of an AMD EPYC", _IMAGES_PER_S, {})


class Costs:
    """The costs of a study's steps, whose keyword arguments are the wildcards of the rules.

    Raises:
        ConfigError: a model of the study is missing from ``throughput``.
    """

    def __init__(self, layout: Layout, throughput: Throughput = MEASURED) -> None:
        self._layout, self._throughput = layout, throughput
        config = layout.config
        self._gpu = config.device != "cpu"
        on_gpu = config.device == "cuda" or (config.device == "auto" and throughput.on_gpu)
        self._batched = config.replica_strategy == "batched" or (config.replica_strategy == "auto" and on_gpu)
        models = {unlabelled(experiment.model) for experiment in layout.study.experiments}
        if throughput is MEASURED:
            rates = {model: _images_per_s(model) for model in models}
            coarser = {model: rate * _bfloat16_times(model) for model, rate in rates.items()}
            self._throughput = replace(MEASURED, images_per_s=rates, bfloat16_per_s=coarser)
        elif missing := models - set(throughput.images_per_s):
            raise ConfigError(
                f"throughput: {throughput.origin} has none of {', '.join(sorted(missing))}; "
                f"measure {' '.join(sorted(models))}"
            )

    # Time and memory --------------------------------------------------------------------------------------------

    def prepare(self, dataset: str, **_: Any) -> Cost:
        """Raw files into one prepared file."""
        return _cpu_step(15.0, _float_mb(dataset))

    def init(self, dataset: str, **_: Any) -> Cost:
        """W0."""
        return _cpu_step(2.0, _float_mb(dataset) / 4)

    def dense(self, dataset: str, model: str, **_: Any) -> Cost:
        """Dense training."""
        experiment = self._layout.experiment(dataset, model)
        return self._training(experiment, dataset, _with_entropy(experiment, experiment.dense.planned_epochs()))

    def prune(self, dataset: str, model: str, method: str, **_: Any) -> Cost:
        """A run of a gradual method."""
        experiment = self._layout.experiment(dataset, model, method)
        of_models = _METHOD_TIMES.get(method, {"": 1.0})
        times = of_models.get(unlabelled(model), max(of_models.values()))
        expected, at_most = _with_entropy(experiment, _method_epochs(experiment))
        return self._training(experiment, dataset, (times * expected, times * at_most))

    def retrain(self, dataset: str, model: str, method: str, strategy: str, seed: int | str, **_: Any) -> Cost:
        """All replicas of a cell."""
        experiment = self._layout.experiment(dataset, model, method)
        as_method = STRATEGIES[strategy].budget == "method"
        epochs = _method_epochs(experiment) if as_method else experiment.dense.planned_epochs()
        retraining = self._layout.retraining(experiment, strategy, int(seed))
        assert retraining is not None  # else the layout names no such cell
        return self._training(experiment, dataset, _with_entropy(experiment, epochs), retraining.replicas)

    def transfer(self, dataset: str, model: str, to: str, method: str | None = None, **key: Any) -> Cost:
        """All nets of one cell, or one dense net, on another dataset."""
        experiment = self._layout.experiment(dataset, model, method)
        settings = self._layout.transfer_settings(dataset=dataset, model=model, to=to, method=method, **key)
        strategy, replicas = key.get("strategy", ""), 1
        if strategy in experiment.strategies and (
            retraining := self._layout.retraining(experiment, strategy, int(key["seed"]))
        ):
            replicas = retraining.replicas
        assert settings.finetune is not None  # the layout gives it resolved
        recipes = {"probe": settings.probe, "finetune": settings.finetune}
        epochs = [recipes[mode].planned_epochs() for mode in settings.modes]
        both = sum(expected for expected, _ in epochs), sum(at_most for _, at_most in epochs)
        return self._training(experiment, to, both, replicas, looped=True)

    def analyse(self, analysis: str, dataset: str, model: str, method: str, **_: Any) -> Cost:
        """One analysis of G and 1-S, and maybe of the dense net, which is taken for one that costs as much as each."""
        entry, chosen = ANALYSES[analysis], self._layout.analysis_settings(dataset, model, method, analysis)
        images = sum(min(chosen.images or math.inf, self._images(dataset)[part]) for part in chosen.parts_read)
        passes = entry.passes * (1.5 if of_dense(chosen) else 1.0)
        seconds = _START_S + passes * chosen.positions * images / self._throughput.images_per_s[unlabelled(model)]
        statistics = _psp_kb(model) * images / 1000 if entry.holds_statistics else 0.0
        return Cost(seconds, seconds, self._memory_mb(dataset, model) + statistics, self._gpu)

    def table(self, **_: Any) -> Cost:
        """The results of all checkpoints."""
        return _cpu_step(2.0 + 0.01 * len(self._layout.checkpoints()))

    def draw(self, **_: Any) -> Cost:
        """A figure, the numbers, the page, or the paper."""
        return _cpu_step(6.0, 200.0)

    def _training(
        self,
        experiment: Experiment,
        dataset: str,
        epochs: tuple[float, float],
        replicas: int = 1,
        *,
        looped: bool = False,
    ) -> Cost:
        images = replicas * self._images(dataset)["train"]
        together = replicas > 1 and self._batched and not looped
        rates = self._throughput.batched_per_s if together else {}
        model = experiment.model
        trained_per_s = self._trained_per_s(unlabelled(model), self._layout.precision(experiment))
        epoch_s = images / rates.get(unlabelled(model), trained_per_s)
        expected, at_most = (_START_S + (count + _EVALUATIONS) * epoch_s for count in epochs)
        return Cost(expected, at_most, self._memory_mb(dataset, model, replicas if together else 1), self._gpu)

    def _trained_per_s(self, model: str, precision: str) -> float:
        """Images of one dense net; those of float32 where bfloat16 was not measured."""
        coarser = self._throughput.bfloat16_per_s if precision == "bfloat16" else {}
        return coarser.get(model, self._throughput.images_per_s[model])

    def _memory_mb(self, dataset: str, model: str, replicas: int = 1) -> float:
        # The images once as bytes and once as float32.
        data = 1.25 * _float_mb(dataset)
        return _PROCESS_MB + data + _net_mb(model) * replicas

    def _images(self, dataset: str) -> dict[str, int]:
        training, test = DATASETS[dataset].sizes
        validation = round(self._layout.study.data.validation_share * training)
        return {"train": training - validation, "validation": validation, "test": test}

    def assumptions(self) -> list[str]:
        """What the numbers rest on, a line each."""
        trained = sorted({(unlabelled(e.model), self._layout.precision(e)) for e in self._layout.study.experiments})
        models = list(dict.fromkeys(model for model, _ in trained))
        unmeasured = sorted(set(models) - set(_IMAGES_PER_S)) if self._throughput.origin == MEASURED.origin else []
        names = {key: key[0] if key[1] == "float32" else " in ".join(key) for key in trained}
        rates = ", ".join(f"{name} {self._trained_per_s(*key):,.0f}" for key, name in names.items())
        known = self._throughput.batched_per_s if self._batched else {}
        together = ", ".join(f"{model} {known[model]:,.0f}" for model in models if model in known)
        return [
            f"images a second, trained, of one dense net: {rates}; measured on {self._throughput.origin}",
            *(f"{model} was not measured: estimated from its multiplications" for model in unmeasured),
            *self._of_bfloat16([model for model, precision in trained if precision == "bfloat16"]),
            "no speed-up of pruned nets, which have had up to 6 times these rates",
            f"replicas as one model: {together} images a second, all together"
            if together
            else "replicas one after the other",
            f"a method's run takes {LOBSTER_SHARE:.0%} of its max_epochs (33 to 47 % measured), at most all",
            f"a plateau recipe has its best epoch at {BEST_EPOCH} (6 to 58 measured) and ends stop_after later",
            "levels that share a state are retrained once, but counted here",
            *self._of_dear_methods(),
            "no waiting in the queue, no start of Snakemake in each job (about 10 s), nothing done twice",
        ]

    def _of_dear_methods(self) -> list[str]:
        dear = sorted({experiment.method.name for experiment in self._layout.study.experiments} & _METHOD_TIMES.keys())
        return [f"all epochs of {', '.join(dear)} take as long as those of their searches"] if dear else []

    def _of_bfloat16(self, models: Sequence[str]) -> list[str]:
        if not models:
            return []
        if self._throughput.origin == MEASURED.origin:
            return ["bfloat16: that many times float32's rate as on a CPU with AMX; slower than float32 on one without"]
        unknown = [model for model in models if model not in self._throughput.bfloat16_per_s]
        return [f"bfloat16 was not measured for {', '.join(unknown)}: counted as float32"] if unknown else []

    # Disk -------------------------------------------------------------------------------------------------------

    def disk_mb(self) -> tuple[float, float]:
        """Of the finished study (prepared data, checkpoints, figures), and of all its resume files at once, MB."""
        study = self._layout.study
        specs = [DATASETS[name] for name in self._layout.datasets()]
        kept: float = _FIGURE_BYTES * len(study.figures) + _PAGE_BYTES
        kept += sum(math.prod(spec.shape) * sum(spec.sizes) for spec in specs)
        resumed = 0.0
        for experiment in study.experiments:
            seeds = len(self._layout.seeds(experiment))
            facts = MODELS[experiment.model].facts
            whole, prunable = facts.state, facts.prunable
            highest = experiment.levels[-1]
            for seed in self._layout.seeds(experiment):
                every = self._layout.kept_weights(experiment, seed) == "all"
                kept += every * _PACKED * _FLOAT * whole  # dense; W0 is a seed
                kept += sum(
                    _pruned_bytes(whole, prunable, level, int(every or level == highest)) for level in experiment.levels
                )
            resumed += seeds * (2 * _RESUMED + len(experiment.levels)) * _FLOAT * whole
            for cell in self._layout.cells(experiment):
                masks = cell.replicas if STRATEGIES[cell.strategy].structure != "method" else 1
                policy = self._layout.weights(experiment, cell.level_name, cell.seed)
                weights = {"all": cell.replicas, "first": 1, "none": 0}[policy]
                kept += _pruned_bytes(whole, prunable, float(cell.level_name) / 100, weights, masks)
                resumed += (_RESUMED + cell.replicas) * _FLOAT * whole
        return kept / 1e6, resumed / 1e6


def _cpu_step(seconds: float, working_mb: float = 0.0) -> Cost:
    return Cost(seconds, seconds, _PROCESS_MB + working_mb, False)


def _float_mb(dataset: str) -> float:
    """All images as float32."""
    spec = DATASETS[dataset]
    return _FLOAT * math.prod(spec.shape) * sum(spec.sizes) / 1e6


def _method_epochs(experiment: Experiment) -> tuple[float, float]:
    """Expected and at most."""
    return experiment.method.planned_epochs(experiment.levels)


def _with_entropy(experiment: Experiment, epochs: tuple[float, float]) -> tuple[float, float]:
    """Epochs as plain ones that take as long."""
    entropy = experiment.psp_entropy
    times = _ENTROPY_TIMES.get(unlabelled(experiment.model), max(_ENTROPY_TIMES.values()))
    return (epochs[0] * times, epochs[1] * times) if entropy is not None and entropy.beta else epochs


def _images_per_s(model: str) -> float:
    """Measured, or at the slowest rate of multiplications that a model was measured to have."""
    if model in _IMAGES_PER_S:
        return _IMAGES_PER_S[model]
    slowest = min(rate * MODELS[known].facts.multiplications for known, rate in _IMAGES_PER_S.items())
    return slowest / MODELS[model].facts.multiplications


def _bfloat16_times(model: str) -> float:
    """Measured, or the least that was measured."""
    return _BFLOAT16_TIMES.get(model, min(_BFLOAT16_TIMES.values()))


def _net_mb(model: str) -> float:
    """Measured, or ResNet-32's in proportion to the outputs of layers, with four copies of the parameters."""
    return (
        _NET_MB.get(unlabelled(model))
        or _NET_MB["resnet32"] * _outputs(model) + 4 * _FLOAT * MODELS[model].facts.parameters / 1e6
    )


def _psp_kb(model: str) -> float:
    name = unlabelled(model)
    return _PSP_KB[name] if name in _PSP_KB else _PSP_KB["resnet32"] * _outputs(model)


def _outputs(model: str) -> float:
    """Outputs of layers, of those of ResNet-32."""
    return MODELS[model].facts.outputs / MODELS["resnet32"].facts.outputs


def _pruned_bytes(whole: int, prunable: int, level: float, replicas: int = 1, masks: int = 1) -> float:
    """A checkpoint with masks: survivors, and a bit for each prunable parameter; packed (`nets.checkpoint`)."""
    values = whole - prunable + (1 - level) * prunable
    entropy = -level * math.log2(level) - (1 - level) * math.log2(1 - level)  # bits of each bit of a random mask
    mask = min(1.0, _PACKED_MASK * entropy) * prunable / 8
    return replicas * _PACKED * _FLOAT * values + masks * mask + _HEADER_BYTES * (1 + replicas)
