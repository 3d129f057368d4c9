"""Dense training: the net that pruned ones are compared with."""

from pathlib import Path
from typing import Literal

from sharpminima.base.progress import Progress
from sharpminima.catalogue.recipes import PspEntropySettings, RecipeSettings
from sharpminima.nets.agreement import INIT, check_data, check_strategy
from sharpminima.nets.initial import load_initial
from sharpminima.nets.resume import ResumeFile
from sharpminima.runtime.usage import usage_recorded
from sharpminima.steps.job import Runtime, TrainingJob, recorded_entropy, recorded_net
from sharpminima.steps.recipe import KEPT, fit, write_cell


def dense(
    data: Path,
    w0: Path,
    settings: RecipeSettings,
    out: Path,
    runtime: Runtime,
    *,
    psp_entropy: PspEntropySettings | None = None,
    weights: Literal["all", "none"] = "all",
) -> None:
    """Train a run's dense net from its W0; writes ``checkpoint.safetensors`` and ``history.csv`` into ``out``.

    Args:
        psp_entropy: a part of what the training minimises.
        weights: with ``none`` the checkpoint keeps metrics and the classes given to the test images.

    Raises:
        CheckpointError: ``w0`` is no W0, or one of other data.
    """
    initial = load_initial(w0)
    check_strategy((w0, initial.metadata), INIT, "--init")
    net = recorded_net(initial.metadata)
    model_name, seed = net["model"], initial.metadata["seed"]
    facts = {"strategy": "dense", "settings": settings.model_dump(mode="json"), **recorded_entropy(psp_entropy)}
    job = TrainingJob(data, runtime, **net, seed=seed, **facts)
    check_data((w0, initial.metadata), job.dataset.name, job.dataset.sha256)
    model = initial.load_into(job.build())
    resume = ResumeFile(out / "resume.safetensors", fingerprint=job.fingerprint(initial))
    progress = Progress(f"dense {model_name}/{job.dataset.name} seed {seed}")
    with usage_recorded(out):
        trained = fit(job, model, None, settings, ("dense", 0), seed, progress, resume, psp_entropy)
        write_cell(job, out, [trained], None, {}, KEPT[weights])
    resume.remove()
