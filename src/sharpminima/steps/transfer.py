"""The step that takes trained nets to another dataset.

Tartaglione, Bragagnolo and Grangetto (ICANN 2020) conclude with a conjecture: that highly sparse nets, gradually
pruned, extract features which transfer better. Here the last linear layer is drawn anew for the other classes, and
trained on frozen features (``probe``) or together with all that survives (``finetune``).
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpminima.base.errors import CheckpointError
from sharpminima.base.progress import Progress
from sharpminima.base.sums import write_table
from sharpminima.catalogue.columns import TRANSFER_COLUMNS
from sharpminima.catalogue.recipes import RecipeSettings
from sharpminima.data import Split
from sharpminima.nets.agreement import TRAINED, check_metrics, check_place, check_stated, check_trained
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.evaluation import evaluate
from sharpminima.nets.models import build_recorded
from sharpminima.nets.resume import FinishedParts, ResumeFile
from sharpminima.runtime.rng import derive_seed
from sharpminima.steps.job import Runtime, TrainingJob
from sharpminima.steps.recipe import fit
from sharpminima.steps.tables import net_key
from sharpminima.study.schema import TransferSettings

_BATCH = 1000  # images a pass


def transfer(data: Path, source: Path, settings: TransferSettings, out: Path, runtime: Runtime) -> None:
    """Train the nets of ``source`` on other data; writes one row a replica and mode.

    All nets of a run get the same last layer, and masks are kept but for that layer's. What `probe` trains it on is
    said at `_features`; training images are not augmented there.

    Args:
        data: the prepared dataset to go to.
        source: a checkpoint of nets that were trained on another one.

    Raises:
        CheckpointError: the nets were trained on these data, or not trained at all, or do not state what is taken from
            them; or the data are not those that ``settings`` name.
    """
    checkpoint = load_checkpoint(source)
    known = checkpoint.metadata
    check_trained((source, known))
    if not checkpoint.states:
        fault = "is W0, which is not trained" if "drawn_sha256" in known else "keeps no weights"
        raise CheckpointError(f"{source}: {fault}; give a trained net")
    check_stated((source, known), (*TRAINED, "dataset_sha256"))
    check_metrics((source, known), ("sparsity",))
    check_place(source, known)
    keys = [net_key(known, replica) for replica in range(len(checkpoint.states))]
    recipes = {"probe": settings.probe, "finetune": settings.finetune or RecipeSettings()}
    job = TrainingJob(data, runtime, model=known["model"], source=keys[0], settings=settings.model_dump(mode="json"))
    if job.dataset.sha256 == known["dataset_sha256"]:
        raise CheckpointError(f"{source}: was trained on these very data ({job.dataset.name}); give others")
    if job.dataset.name != settings.to:
        raise CheckpointError(
            f"{data}: is {job.dataset.name}, and --settings go to {settings.to}; give the data of that"
        )
    fingerprint = job.fingerprint(checkpoint)
    done = FinishedParts(out.with_name(f"{out.stem}-resume-finished.safetensors"), fingerprint=fingerprint)
    resume = ResumeFile(out.with_name(f"{out.stem}-resume.safetensors"), fingerprint=fingerprint)
    wanted = [(replica, mode) for replica in range(len(keys)) for mode in settings.modes]
    for replica, mode in wanted[len(done.parts) :]:
        model, head = _with_new_head(job, known, checkpoint.states[replica])
        frozen = _features(job, model, head)
        where, net, masks = job, model, None
        if mode == "probe":
            where, net = frozen, nn.Sequential(nn.Flatten(), copy.deepcopy(model.get_submodule(head)))
        elif checkpoint.masks is not None:
            masks = {name: m for name, m in checkpoint.masks[replica].items() if not name.startswith(f"{head}.")}
        key = keys[replica]
        label = f"{mode} {key['strategy']} {key['model']}/{key['dataset']} to {job.dataset.name} seed {key['seed']}"
        role = (f"transfer-{mode}", replica)
        state, facts, _ = fit(where, net, masks, recipes[mode], role, key["seed"], Progress(label), resume)
        net.load_state_dict(state)
        done.add(
            {
                **key,
                "sparsity": known["metrics"][replica]["sparsity"],
                "to": job.dataset.name,
                "to_sha256": job.dataset.sha256,
                "mode": mode,
                "features": model.get_submodule(head).in_features,
                "live_features": int((frozen.training.images != 0).any(dim=0).sum()),
                **_performance(where, net.to(job.device)),
                "best_epoch": facts["epoch"],
                "epochs": facts["epochs"],
            }
        )
        resume.remove()
    write_table(out, done.parts, TRANSFER_COLUMNS)
    done.remove()


def _with_new_head(job: TrainingJob, known: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[nn.Module, str]:
    """The net with the last linear layer drawn anew for the job's classes, on its device, and that layer's name."""
    seed = derive_seed(known["seed"], "transfer", "head")
    model = build_recorded(known, num_classes=job.dataset.num_classes, seed=seed)
    head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    body = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    model.load_state_dict(body | {name: value for name, value in model.state_dict().items() if name not in body})
    return model.to(job.device), head


@torch.no_grad()
def _features(job: TrainingJob, model: nn.Module, head: str) -> TrainingJob:
    """The job with features in place of its images: what enters the last layer of ``model``, [N, features, 1, 1].

    Each is centred and scaled to variance 1 over the training images, which a linear layer could undo, so that no net
    gains by the scale of its features; constant ones are 0. All are divided by the root of the number of the others,
    so that their mean squared norm is 1.
    """
    entering: list[Tensor] = []
    hook = model.get_submodule(head).register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    model.eval()
    raw = {}
    for part in ("training", "validation", "test"):
        for batch in getattr(job, part).images.split(_BATCH):
            model(batch)
        raw[part] = torch.cat(entering).double()
        entering.clear()
    hook.remove()
    mean, spread = raw["training"].mean(dim=0), raw["training"].std(dim=0, correction=0)
    live = raw["training"].amax(dim=0) > raw["training"].amin(dim=0)
    scale = torch.where(live, 1 / spread.clamp(min=torch.finfo(spread.dtype).tiny), 0) / max(1, int(live.sum())) ** 0.5
    changed = copy.copy(job)
    changed.augment = False
    for part, values in raw.items():
        scaled = ((values - mean) * scale).float()[:, :, None, None]
        setattr(changed, part, Split(scaled, getattr(job, part).labels))
    return changed


def _performance(job: TrainingJob, net: nn.Module) -> dict[str, Any]:
    """Losses on all parts, and the test error."""
    values: dict[str, Any] = {}
    for part in ("training", "validation", "test"):
        split = getattr(job, part)
        evaluation = evaluate(net, split.images, split.labels)
        values[f"{part}_loss_nats"] = evaluation.loss
    return {
        **values,
        "test_error_percent": evaluation.error_percent,
        "test_wrong": evaluation.wrong,
        "test_images": evaluation.samples,
    }
