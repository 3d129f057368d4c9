"""A method's run: a trained state and a mask for each level."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sharpminima.base.files import write_csv, write_json
from sharpminima.base.names import CELL, CHECKPOINT, GRADUAL, RUN, level_name
from sharpminima.base.progress import Progress
from sharpminima.base.sums import note_sum
from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.recipes import PspEntropySettings
from sharpminima.nets.agreement import INIT, check_data, check_strategy
from sharpminima.nets.checkpoint import save_checkpoint
from sharpminima.nets.initial import load_initial
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning import Run
from sharpminima.runtime.usage import usage_recorded
from sharpminima.steps.job import Runtime, TrainingJob, recorded_entropy, recorded_net
from sharpminima.study.schema import MethodSettings
from sharpminima.training import HISTORY_COLUMNS


def prune(
    data: Path,
    w0: Path,
    method: MethodSettings,
    levels: Sequence[float],
    out: Path,
    runtime: Runtime,
    *,
    psp_entropy: PspEntropySettings | None = None,
    weights: Literal["all", "highest"] = "all",
) -> None:
    """Run a gradual method from W0.

    Args:
        method: the method's name and settings.
        levels: requested sparsities, ascending.
        out: folder of the method; gets ``level-L/gradual/seed-S/checkpoint.safetensors`` for each level, and
            ``run/seed-S/`` with ``history.csv`` (one row an epoch) and ``events.json`` (one entry a pruning).
        psp_entropy: a part of what every training of the method minimises.
        weights: the levels whose weights are kept; of the others masks, metrics and the classes given to the test
            images are.

    Raises:
        CheckpointError: ``w0`` is no W0, or one of other data.
        PluginError: the code of a plug-in's method raised.
        MethodError: a method returned other than what its entry promises.
    """
    initial = load_initial(w0)
    check_strategy((w0, initial.metadata), INIT, "--init")
    net = recorded_net(initial.metadata)
    model_name, seed = net["model"], initial.metadata["seed"]
    settings = method.model_dump(mode="json", by_alias=True)
    facts = {**net, "seed": seed, "method": method.name, "settings": settings, "levels": list(levels)}
    facts |= recorded_entropy(psp_entropy)
    job = TrainingJob(data, runtime, **facts)
    check_data((w0, initial.metadata), job.dataset.name, job.dataset.sha256)
    record = out / RUN.format(seed=seed)
    resume = ResumeFile(record / "resume.safetensors", fingerprint=job.fingerprint(initial))
    run = Run(
        model=initial.load_into(job.build()).to(job.device),
        training=job.training,
        validation=job.validation,
        test=job.test,
        levels=tuple(levels),
        seed=seed,
        augment=job.augment,
        compaction=runtime.compaction,
        psp_entropy=psp_entropy,
        progress=Progress(f"{method.name} {model_name}/{job.dataset.name} seed {seed}"),
        resume=resume,
    )
    with usage_recorded(record):
        pruned = METHODS[method.name].prune(run, method)
        # Levels passed by one event share a state; the highest of them stands for all in retraining and plots.
        highest = {state.facts["event"]: level for level, state in sorted(pruned.levels.items())}
        write_csv(record / "history.csv", pruned.history, HISTORY_COLUMNS)
        write_json(record / "events.json", pruned.events)
        note_sum(record / "events.json")
        for level, state in pruned.levels.items():
            metadata = {
                **job.facts,
                "strategy": GRADUAL,
                "level": level,
                "represented_by": highest[state.facts["event"]],
                "reached": state.reached,
                "method_epochs": pruned.epochs,
                "metrics": [{**job.metrics(state.state, state.masks), "epochs": pruned.epochs, **state.facts}],
            }
            folder = out / CELL.format(level=level_name(level), strategy=GRADUAL, seed=seed)
            states, predictions = [state.state], None
            if weights == "highest" and level != max(levels):
                states, predictions = [], job.predictions(states)
            save_checkpoint(
                folder / CHECKPOINT, states, masks=[state.masks], metadata=metadata, predictions=predictions
            )
    resume.remove()
