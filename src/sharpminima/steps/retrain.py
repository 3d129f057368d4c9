"""Retraining at a method's mask: the replicas of one strategy at one level."""

from pathlib import Path
from typing import Literal

from sharpminima.base.errors import CheckpointError
from sharpminima.base.names import GRADUAL
from sharpminima.base.progress import Progress
from sharpminima.catalogue.recipes import PspEntropySettings, RecipeSettings
from sharpminima.catalogue.strategies import STRATEGIES
from sharpminima.nets.agreement import (
    INIT,
    PRUNED,
    RUN,
    check_agreement,
    check_data,
    check_place,
    check_stated,
    check_strategy,
)
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.initial import load_initial
from sharpminima.nets.models import set_batchnorm
from sharpminima.nets.resume import FinishedParts, ResumeFile
from sharpminima.pruning import strategies
from sharpminima.runtime.usage import usage_recorded
from sharpminima.steps.draws import earlier_draws, forget_earlier
from sharpminima.steps.job import Runtime, TrainingJob, recorded_entropy, recorded_net
from sharpminima.steps.recipe import KEPT, fit, fit_batch, untrained, write_cell


def retrain(
    data: Path,
    w0: Path,
    pruned: Path,
    strategy_name: str,
    replicas: int,
    settings: RecipeSettings,
    out: Path,
    runtime: Runtime,
    *,
    psp_entropy: PspEntropySettings | None = None,
    weights: Literal["all", "first", "none"] = "all",
) -> None:
    """Retrain all replicas of one cell at a method's masks; writes ``checkpoint.safetensors`` and ``history.csv``.

    Draws of a cell that was here before are taken over where they are those that would be trained (`earlier_draws`),
    but for those that are trained as one model: there each depends on the others, by its rounding.

    Where a higher level has the same state, that level's cell is the one that is trained; this one then holds the
    untrained start of a single replica, and its metadata says ``represented_by``.

    Args:
        pruned: the method's checkpoint of the level (strategy ``gradual``).
        settings: the dense recipe.
        psp_entropy: a part of what the training minimises.
        weights: the replicas whose weights are kept; of the others masks, metrics and predictions are.

    Raises:
        CheckpointError: the two nets are not of one run, not W0 and a method's state, or of other data; or they do not
            state what is taken from them.
    """
    initial, structure = load_initial(w0), load_checkpoint(pruned)
    if structure.masks is None:
        raise CheckpointError(f"{pruned}: holds no masks; give the checkpoint of a pruning method")
    check_strategy((w0, initial.metadata), INIT, "--init")
    check_strategy((pruned, structure.metadata), GRADUAL, "--pruned")
    check_place(pruned, structure.metadata)
    check_stated((pruned, structure.metadata), PRUNED)
    check_agreement((w0, initial.metadata), (pruned, structure.metadata), RUN)
    strategy, known = STRATEGIES[strategy_name], structure.metadata
    if strategy.budget == "method":
        check_stated((pruned, known), ("method_epochs",))
        settings = settings.model_copy(update={"schedule": "constant", "max_epochs": known["method_epochs"]})
    seed, model_name = known["seed"], known["model"]
    facts = recorded_net(known) | {key: known[key] for key in ("seed", "method", "level", "represented_by", "reached")}
    facts |= {"strategy": strategy_name, "replicas": replicas, "settings": settings.model_dump(mode="json")}
    job = TrainingJob(data, runtime, **facts, **recorded_entropy(psp_entropy))
    check_data((pruned, known), job.dataset.name, job.dataset.sha256)
    mode = job.replica_strategy(replicas)
    job.facts["runtime"]["replica_strategy"] = mode
    is_represented = known["represented_by"] != known["level"]
    nets = [
        strategies.masked_net(
            strategy,
            model_name,
            job.dataset.num_classes,
            initial.states[0],
            structure.masks[0],
            seed=seed,
            replica=replica,
        )
        for replica in range(1 if is_represented else replicas)
    ]
    for model, _ in nets:
        set_batchnorm(model, **known.get("batchnorm", {}))
    masks = [mask for _, mask in nets]
    if is_represented:
        with usage_recorded(out):
            write_cell(job, out, [untrained(model) for model, _ in nets], masks, {"trained": False}, KEPT[weights])
        forget_earlier(out)
        return
    one_by_one = mode == "loop"
    earlier = earlier_draws(out, job, masks, (data, w0, pruned), kept=KEPT[weights]) if one_by_one else []
    with usage_recorded(out, goes_on=bool(earlier)):
        fingerprint = job.fingerprint(initial, structure, without=("replicas",) if one_by_one else ())
        after = f"{fingerprint} after {len(earlier)}" if earlier else fingerprint
        done = FinishedParts(out / "resume-finished.safetensors", fingerprint=after)
        label = f"{strategy_name} {model_name}/{job.dataset.name} level {known['level']:g} seed {seed}"
        if mode == "batched" and not done.parts:
            resume = ResumeFile(out / "resume-batch.safetensors", fingerprint=fingerprint)
            progress = Progress(f"{label} replicas 1-{replicas}")
            done.add(*fit_batch(job, nets, settings, strategy_name, seed, progress, resume, psp_entropy))
            resume.remove()
        for replica in range(len(earlier) + len(done.parts), replicas):
            progress = Progress(f"{label} replica {replica + 1}/{replicas}")
            resume = ResumeFile(out / f"resume-{replica}.safetensors", fingerprint=fingerprint)
            role = (strategy_name, replica)
            done.add(fit(job, *nets[replica], settings, role, seed, progress, resume, psp_entropy))
            resume.remove()
        trained = done.parts[: replicas - len(earlier)]  # more where the strategy had more when it was interrupted
        write_cell(job, out, trained, masks, {"trained": True}, KEPT[weights], earlier)
    done.remove()
    forget_earlier(out)
