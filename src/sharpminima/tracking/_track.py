"""After a Snakemake run: everything that it made recorded, hashed and kept."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpminima.base.errors import SharpminimaError
from sharpminima.base.files import sha256_file, write_text
from sharpminima.base.yaml_input import read_yaml
from sharpminima.catalogue.figures import FIGURES
from sharpminima.study.jobs import Job, Layout
from sharpminima.study.paths import STAGES
from sharpminima.study.read import STUDIES, read_config
from sharpminima.tracking._adopt import adopt
from sharpminima.tracking._locks import refuse_if_dvc_is_at_work, refuse_if_snakemake_is_at_work
from sharpminima.tracking._notes import Notes
from sharpminima.tracking._record import check_files, write_record, write_settings
from sharpminima.tracking._restore import fetch_finished, planned

_PIPELINE = Path("dvc.yaml")
_IGNORED = Path(".dvcignore")


def tracked_studies() -> list[str]:
    """The studies that ``dvc.yaml`` tracks.

    Raises:
        SharpminimaError: there is no ``dvc.yaml`` here, it is not YAML (a merge has left its marks), or names none.
    """
    content = read_yaml(_PIPELINE) if _PIPELINE.is_file() else {}
    try:
        studies = [name for group in content["vars"] if isinstance(group, dict) for name in group.get("tracked", [])]
    except (KeyError, TypeError):
        studies = []
    if not studies:
        raise SharpminimaError(f"{_PIPELINE}: names no tracked studies; run this in the top folder of the checkout")
    return studies


def _refuse_what_the_stages_lack(layout: Layout, stages: Mapping[str, Any]) -> None:
    """The stages of ``dvc.yaml`` draw the same figures for every study that they track, and see its plug-ins."""
    made = {*layout.study.figures, *(["paper"] if layout.study.paper else [])}
    lacking = [name for name in (*FIGURES, "paper") if name in stages and name not in made]
    if lacking:
        raise SharpminimaError(
            f"study {layout.name} does not make {', '.join(lacking)}, for which {_PIPELINE} has stages: take it out of "
            f"`tracked` there, and record it with `sharpminima track --finished {layout.name}`"
        )
    seen = stages.get("settings", {}).get("deps", [])
    for path in dict.fromkeys(path for job in layout.jobs() for path in job.plugin_files):
        if not any(path == dependency or path.startswith(f"{dependency}/") for dependency in seen):
            raise SharpminimaError(
                f"study {layout.name} uses {path}, of which DVC knows nothing: name it in the `deps` of the stage "
                f"`settings` in {_PIPELINE}"
            )


def track(names: Sequence[str] = (), *, push: bool = True) -> list[str]:
    """Record tracked studies in DVC, and push what the default remote lacks; returns the studies' names.

    Writes each study's settings, its records, and ``workflow/studies/<study>.sha256`` with the SHA-256 of figures,
    paper and tables, in the format of ``sha256sum``; then `dvc commit` takes the files as the outputs of its stages.

    Args:
        names: of ``dvc.yaml``; all that it tracks where none is given.
        push: to the default remote.

    Raises:
        SharpminimaError: Snakemake or DVC is at work, ``dvc.yaml`` does not track a study or has stages for what it
            lacks, Snakemake has something to do, or DVC failed.
        CheckpointError: a checkpoint is damaged.
    """
    refuse_if_snakemake_is_at_work()
    refuse_if_dvc_is_at_work()
    tracked = tracked_studies()
    if unknown := [name for name in names if name not in tracked]:
        raise SharpminimaError(
            f"{_PIPELINE}: does not track {', '.join(unknown)}, only {', '.join(tracked)}; "
            f"`sharpminima track --finished {unknown[0]}` records what is finished of it"
        )
    studies = [name for name in tracked if name in names or not names]
    stages = read_yaml(_PIPELINE).get("stages", {})
    for name in studies:
        _refuse_what_the_stages_lack(Layout(*read_config(name)), stages)
    for name in studies:
        layout = Layout(*read_config(name))  # anew: the plug-ins of the study that was read last are in use
        _refuse_what_is_not_whole(layout, ", or name the studies to record")
        for stage in STAGES:
            write_settings(layout, stage)
            write_record(layout, stage)
        _write_sums(layout, [*layout.analysis_jobs(), *layout.drawing_jobs()])
        _stop_ignoring(layout)
    targets = [f"{stage}@{name}" for name in studies for stage in stages] if names else []
    _dvc("commit", "--force", *targets)
    if push:
        _dvc("push", *targets)
    return studies


def track_finished(layout: Layout, *, push: bool = True) -> tuple[int, list[str]]:
    """Record the finished jobs of a study that ``dvc.yaml`` does not track, and push what the default remote lacks.

    Runs, and analyses if there are any, are tracked by a file each, so that `dvc pull` brings them and Snakemake goes
    on from them, while `dvc repro` leaves the study alone. A study that is complete belongs into ``dvc.yaml``. What was
    recorded before and is not here is fetched, so that it stays recorded.

    Returns:
        Number of finished jobs, and the files that track them, with ``.dvcignore`` where that has changed.

    Raises:
        SharpminimaError: Snakemake or DVC is at work, the study is in ``dvc.yaml``, what was recorded is to be had
            nowhere, or DVC failed.
        CheckpointError: a checkpoint is damaged.
    """
    _refuse_if_busy_or_in_the_pipeline(layout)
    for stage in STAGES:
        fetch_finished(layout, stage)  # else what was recorded before and is not here would be dropped
    adopt(layout)
    jobs = {stage: write_record(layout, stage, finished=True) for stage in STAGES}
    if not any(jobs.values()):
        raise SharpminimaError(f"{layout.root}: no job of study {layout.name} is finished")
    # Not before the fetch: to DVC, nets that are seen and were not recorded are none of the folder's.
    changed = [f"{_IGNORED}"] if _stop_ignoring(layout) else []
    files = _add([layout.stage_folder(stage) for stage in STAGES if jobs[stage]], push=push)
    return sum(jobs.values()), [*files, *changed]


def track_without_nets(layout: Layout, *, push: bool = True) -> list[str]:
    """Record all of a complete study but its nets: what its figures, its paper and its page are drawn from.

    For a study that ``dvc.yaml`` does not track, and whose checkpoints are too large to keep: DVC is told to ignore
    them. What is beside them, analyses, tables and figures are tracked by a file each, so that `dvc pull` brings them;
    the SHA-256 of the last three are written to ``workflow/studies/<study>.sha256``.

    Returns:
        The files that track them.

    Raises:
        SharpminimaError: Snakemake or DVC is at work, the study is in ``dvc.yaml``, Snakemake has something to do, a
            table was changed by hand, or DVC failed.
        CheckpointError: a checkpoint is damaged.
    """
    _refuse_if_busy_or_in_the_pipeline(layout)
    _refuse_what_is_not_whole(layout)
    for stage in STAGES:
        write_record(layout, stage)
    figures = [layout.figure_job(name) for name in layout.study.figures]
    # Without the paper and the page of the study, which a clone has to draw first.
    drawn = [*figures, layout.provenance_job()] if figures else []
    _write_sums(layout, [*layout.analysis_jobs(), *layout.comparing_jobs(), *drawn])
    _ignore(_nets(layout), _notebooks(layout))
    folders = [layout.runs_folder, layout.analysis_folder, layout.tables_folder]
    return _add([*folders, *([layout.figures_folder] if figures else [])], push=push)


def _nets(layout: Layout) -> str:
    return f"/{layout.runs_folder}/**/*.safetensors"


def _notebooks(layout: Layout) -> str:
    """Executed ones, which hold the times of their making."""
    return f"/{layout.figures_folder}/*.html"


def _ignored() -> list[str]:
    return _IGNORED.read_text(encoding="utf-8").splitlines() if _IGNORED.is_file() else []


def _ignore(*patterns: str) -> None:
    lines = _ignored()
    write_text(_IGNORED, "".join(f"{line}\n" for line in [*lines, *(each for each in patterns if each not in lines)]))


def _stop_ignoring(layout: Layout) -> bool:
    """Have DVC see the nets of a study that was recorded without them; whether it did not."""
    dropped = {_nets(layout)}
    if not Path(f"{layout.figures_folder}.dvc").is_file():  # else the folder is tracked as a whole, but for these
        dropped.add(_notebooks(layout))
    lines = _ignored()
    if dropped.isdisjoint(lines):
        return False
    write_text(_IGNORED, "".join(f"{line}\n" for line in lines if line not in dropped))
    return True


def _refuse_if_busy_or_in_the_pipeline(layout: Layout) -> None:
    refuse_if_snakemake_is_at_work()
    refuse_if_dvc_is_at_work()
    if layout.name in tracked_studies():
        raise SharpminimaError(f"study {layout.name} is in {_PIPELINE}: `sharpminima track` records it")


def _refuse_what_is_not_whole(layout: Layout, otherwise: str = "") -> None:
    adopt(layout)
    notes = Notes()
    for stage in STAGES:
        # Before Snakemake is asked: a damaged file is named as such, not what would be made again after it.
        check_files(layout, stage, notes)
    missing = planned(layout)
    if missing:
        jobs = ", ".join(f"{count} {rule}" for rule, count in missing.items() if rule != "all")
        raise SharpminimaError(
            f"study {layout.name} is not up to date, Snakemake would run {jobs}: run "
            f"`snakemake --cores all --config study={layout.config.study}` first{otherwise}"
        )


def _add(folders: Sequence[str], *, push: bool) -> list[str]:
    _dvc("add", "--quiet", *folders)
    files = [f"{folder}.dvc" for folder in folders]
    if push:
        _dvc("push", "--quiet", *files)
    return files


def _write_sums(layout: Layout, jobs: Sequence[Job]) -> None:
    paths = sorted(path for job in jobs for path in job.outputs)
    sums = "".join(f"{sha256_file(path)}  {path}\n" for path in paths)
    write_text(STUDIES / f"{layout.name}.sha256", sums)


def _dvc(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(line for line in done.stderr.splitlines() if line.strip())
        cure = ""
        if "Permission denied" in reason or "Read-only" in reason:
            cure = "; is the cache read-only? `dvc cache dir --local FOLDER` chooses one that is not"
        raise SharpminimaError(f"dvc {' '.join(arguments)} failed: {reason}{cure}")
