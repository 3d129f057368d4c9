"""What is kept of a trial that has ended: all that it depends on, and the fault of one that diverged."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sharpminima.base.errors import SharpminimaError, TrainingError
from sharpminima.base.files import read_json, sha256_file, write_json
from sharpminima.data import load_prepared
from sharpminima.nets.initial import read_initial
from sharpminima.runtime.device import configure
from sharpminima.steps.job import Runtime
from sharpminima.study.plugged import as_settings, used_by

_RECORD = "trial.json"
_FAULT = "fault"


def run_once(folder: Path, facts: Mapping[str, Any], nets: Iterable[Path], run: Callable[[], None]) -> str | None:
    """Run a trial, unless one of the same facts has ended in this folder; the fault of one that diverged, else None.

    Args:
        facts: all that the trial depends on, JSON values.
        nets: files that ``run`` writes, without which a trial that did not diverge has not ended.
    """
    path = folder / _RECORD
    known = _recorded(path)
    fault: str | None = known.pop(_FAULT, None)
    if known == facts and (fault is not None or all(net.exists() for net in nets)):
        return fault
    path.unlink(missing_ok=True)
    try:
        run()
    except TrainingError as error:  # that tells of these settings, and is a result
        fault = str(error)
        write_json(path, {**facts, _FAULT: fault})
        return fault
    write_json(path, facts)
    return None


def inputs_of(step: str, data: Path, w0: Path, runtime: Runtime, **key: str) -> dict[str, Any]:
    """The facts that trials of a step share: W0, data, how numbers are computed, and plug-ins.

    Args:
        key: what else names the plug-ins, as for `used_by`.

    Raises:
        CheckpointError: ``w0`` does not state its model and seed.
        TrainingError: this machine does not compute as ``runtime`` asks, which tells nothing of a trial.
    """
    device = configure(runtime.device, runtime.threads, runtime.precision)
    dataset, model = load_prepared(data), read_initial(w0)["model"]
    return {
        "w0_sha256": sha256_file(w0),
        "data_sha256": dataset.sha256,
        "runtime": asdict(runtime) | {"device": device.type},
        **as_settings(used_by(step, dataset=dataset.name, model=model, **key)),
    }


def _recorded(path: Path) -> dict[str, Any]:
    """What a record holds; nothing where there is none, or it is cut off or damaged."""
    try:
        record = read_json(path)
    except SharpminimaError:
        return {}
    return record if isinstance(record, dict) else {}
