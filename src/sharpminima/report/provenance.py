"""What a figure comes from: figure <- notebook, code <- tables <- checkpoints and masks <- settings, data, version.

The chain is read from the files themselves: their SHA-256, and what each checkpoint records of its making. It holds
neither dates nor absolute paths, so that equal files give an equal chain on every machine.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import sha256_file, write_json
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.nets.checkpoint import load_checkpoint
from sharpminima.nets.masks import Masks, pack_bits
from sharpminima.report.tables import read_table
from sharpminima.study.jobs import EXPLORE, Job, Layout

_CHECKPOINT_FACTS = ("model", "method", "strategy", "level", "seed", "replicas", "levels", "settings", "runtime")
_SHOWN = {"figure": "figure", EXPLORE: "page"}
"""Rule of what is shown -> kind of its files."""
_SHORT = 12  # hexadecimal digits of a hash in print


def chain(layout: Layout, figure: str) -> dict[str, Any]:
    """The chain of one figure, or of the page of the study (`EXPLORE`).

    Returns:
        ``figure``, ``study``, ``package`` (name, and the release whose format the checkpoints have), ``files`` (the
        figure's own) and ``origins``: path -> ``kind`` (page, figure, notebook, code, table, checkpoint, data),
        ``sha256``,
        ``from`` (paths), and for what was computed ``step``, ``settings`` and ``runtime``. Data have the SHA-256 of
        their content and of the raw files. A plug-in (kind plug-in) is named by its file, or by its distribution, which
        has a ``version`` in place of a ``sha256``.

    Raises:
        SharpminimaError: the study does not draw the figure, or a file is missing.
        CheckpointError: a checkpoint is damaged.
    """
    if figure not in (*layout.study.figures, EXPLORE):
        drawn = ", ".join((*layout.study.figures, EXPLORE))
        raise SharpminimaError(f"{figure}: study {layout.name} has no such figure; it draws {drawn}")
    jobs = layout.ancestry(figure)
    used = {path for job in jobs for path in job.inputs}
    origins: dict[str, dict[str, Any]] = {}
    for job in jobs:
        files = job.plugin_files
        for name, version in _plugins(job).items():
            origins[name] = {"kind": "plug-in", "sha256" if name in files else "version": version}
        for path in job.inputs:
            if path not in origins:  # no job makes it
                kind = "notebook" if path.endswith(".ipynb") else "code"
                origins[path] = {"kind": kind, "sha256": _sha256(path)}
        for path in job.outputs:
            if job.rule == "prepare":
                origins[path] = {"kind": "data", **_raw_data(job)}
            elif job.rule in _SHOWN or path in used:
                origins[path] = _made(layout, job, path, origins)
    return {
        "figure": figure,
        "study": layout.name,
        "package": {"name": "sharpminima", "version": _release(origins)},
        "files": [path for path, node in origins.items() if node["kind"] == _SHOWN[jobs[-1].rule]],
        "origins": origins,
    }


def _release(origins: Mapping[str, Any]) -> str:
    """As the checkpoints record it: the release that runs would change every chain, and with them the PDF."""
    return ", ".join(sorted({node["version"] for node in origins.values() if node["kind"] == "checkpoint"}))


def write_chains(layout: Layout, figures: Sequence[str]) -> None:
    """Write each figure's chain as JSON beside it."""
    for figure in figures:
        write_json(layout.provenance(figure), chain(layout, figure))


def lines(chain_of_figure: Mapping[str, Any]) -> Iterator[str]:
    """The chain as an indented list; what was shown before is named again by its path only."""
    package = chain_of_figure["package"]
    yield f"{chain_of_figure['figure']} of study {chain_of_figure['study']}, {package['name']} {package['version']}"
    first, *others = chain_of_figure["files"]
    for path in others:  # drawn by one notebook from the same tables
        yield f"  {_head(path, chain_of_figure['origins'][path])}"
    yield from _branch(first, chain_of_figure["origins"], set(), 1)


def _branch(path: str, origins: Mapping[str, Any], shown: set[str], depth: int) -> Iterator[str]:
    node, indent = origins[path], "  " * depth
    if path in shown:
        yield f"{indent}{node['kind']} {path} (above)"
        return
    shown.add(path)
    yield indent + _head(path, node)
    if node["kind"] == "data":
        for name, digest in node["raw_sha256"].items():
            yield f"{indent}  raw {name}: sha256 {digest[:_SHORT]}"
    for origin in node.get("from", []):
        yield from _branch(origin, origins, shown, depth + 1)


def _head(path: str, node: Mapping[str, Any]) -> str:
    facts = [f"sha256 {node['sha256'][:_SHORT]}"] if "sha256" in node else []
    if "mask_sha256" in node:
        masks = node["mask_sha256"]
        facts.append("mask " + ", ".join(mask[:_SHORT] for mask in ([masks] if isinstance(masks, str) else masks)))
    if "version" in node:
        facts.append(f"version {node['version']}")
    for name in ("settings", "runtime"):
        if node.get(name):
            facts.append(f"{name} " + ", ".join(f"{key} {_plain(value)}" for key, value in node[name].items()))
    return f"{node['kind']} {path}: {'; '.join(facts)}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_plain, value)) or "none"
    return "none" if value is None else str(value)


def _sha256(path: str) -> str:
    if not Path(path).is_file():
        raise SharpminimaError(f"{path}: is missing; run `snakemake`, or `dvc pull` and `dvc repro`")
    return sha256_file(path)


def _raw_data(job: Job) -> dict[str, Any]:
    """Facts of a dataset; the content's hash follows from the checkpoints trained on it, which need no images."""
    spec = DATASETS[job.settings["dataset"]]
    plugins = _plugins(job)
    return {
        "source": spec.source,
        "raw_sha256": dict(spec.raw_sha256),
        "settings": _own_settings(job),
        **({"from": list(plugins)} if plugins else {}),
    }


def _plugins(job: Job) -> dict[str, str]:
    """The plug-ins that a job used: file -> SHA-256, distribution -> version."""
    return job.settings.get("plugins", {})


def _own_settings(job: Job) -> dict[str, Any]:
    """Its settings without the plug-ins, which stand among what it was made from."""
    return {name: value for name, value in job.settings.items() if name != "plugins"}


def _from(job: Job) -> list[str]:
    """What a job's files come from."""
    return list(dict.fromkeys([*job.inputs, *_plugins(job)]))


def _made(layout: Layout, job: Job, path: str, origins: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if path.endswith(".safetensors"):
        return _checkpoint(job, path, origins)
    kind = _SHOWN.get(job.rule, "table")
    node: dict[str, Any] = {"kind": kind, "sha256": _sha256(path), "step": job.rule, "from": _from(job)}
    if job.rule == "transfer":
        # No checkpoint of the study need be trained on the data that the nets went to.
        origins[job.inputs[0]].setdefault("sha256", read_table("transfer", path)["to_sha256"].iloc[0])
    if settings := _own_settings(job):
        node |= {"settings": settings, "runtime": layout.config.model_dump(include={"device", "threads"})}
    return node


def _checkpoint(job: Job, path: str, origins: dict[str, dict[str, Any]]) -> dict[str, Any]:
    checkpoint = load_checkpoint(path)
    known = checkpoint.metadata
    for origin in job.inputs:
        if origins[origin]["kind"] == "data":
            content = origins[origin].setdefault("sha256", known["dataset_sha256"])
            if content != known["dataset_sha256"]:
                raise SharpminimaError(
                    f"{path}: was trained on other data ({known['dataset_sha256'][:_SHORT]}) than the checkpoints "
                    f"before it ({content[:_SHORT]}); run `snakemake`"
                )
    node = {
        "kind": "checkpoint",
        "sha256": _sha256(path),
        "step": job.rule,
        "version": known["version"],
        **{name: known[name] for name in _CHECKPOINT_FACTS if name in known},
        "from": _from(job),
    }
    if checkpoint.masks is not None:
        digests = [_mask_sha256(masks) for masks in checkpoint.masks]
        node["mask_sha256"] = digests[0] if len(set(digests)) == 1 else digests
    return node


def _mask_sha256(masks: Masks) -> str:
    """SHA-256 over the packed bits of all masks of a net, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(f"{name}|{list(masks[name].shape)}|".encode())
        digest.update(pack_bits(masks[name]).numpy().tobytes())
    return digest.hexdigest()
