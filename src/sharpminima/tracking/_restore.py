"""What a DVC stage begins with: its files brought back and checked, so that Snakemake makes what has changed only."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpminima.base.errors import DataError, SharpminimaError, stated_in
from sharpminima.base.files import atomic_path
from sharpminima.study.jobs import Job, Layout
from sharpminima.tracking._adopt import adopt
from sharpminima.tracking._locks import refuse_if_snakemake_is_at_work
from sharpminima.tracking._notes import Notes
from sharpminima.tracking._record import check_files

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

_SHOWN = 3  # files named in a message


def restore(layout: Layout, stage: str) -> None:
    """Prepare the files of a stage for Snakemake.

    What DVC tracks and the workspace lacks is taken from its cache, else from the default remote: a deleted file is
    not made again while its settings are the same. Prepared data that are missing are made first where a job of the
    stage needs them; made in the same run, Snakemake would take all that ever came from them for out of date.

    Raises:
        SharpminimaError: Snakemake is at work, a tracked file is to be had nowhere, or one was changed by hand.
        DataError: images are needed and not to be had, or a tracked file's copy in cache or remote is damaged.
        CheckpointError: a checkpoint is damaged.
    """
    refuse_if_snakemake_is_at_work()
    _fetch(_lacking(layout, stage))
    check_files(layout, stage, Notes())
    adopt(layout)
    missing = [job for job in layout.training_jobs() if job.rule == "prepare" and not Path(job.outputs[0]).exists()]
    if missing and "prepare" in planned(layout, "--", stage):
        _prepare(layout, missing)
        adopt(layout)


def fetch_finished(layout: Layout, stage: str) -> None:
    """Bring back what was recorded of the finished jobs of a study under way, and is not here.

    Raises:
        SharpminimaError: a tracked file is to be had nowhere.
        DataError: its copy in DVC's cache or remote is damaged.
    """
    folder = Path(layout.stage_folder(stage))
    if folder.with_name(f"{folder.name}.dvc").is_file():
        _fetch([path for path in _lacking(layout, stage) if Path(path).is_relative_to(folder)])


def _lacking(layout: Layout, stage: str) -> list[str]:
    wanted = [layout.record(stage), *(path for job in layout.stage_jobs(stage) for path in job.outputs)]
    return [path for path in wanted if not Path(path).exists()]


def _prepare(layout: Layout, missing: Sequence[Job]) -> None:
    try:
        snakemake(layout, "--cores", "1", "--", "data")
    except SharpminimaError as error:
        logs = [Path(layout.root, "logs", "prepare", f"{job.settings['dataset']}.log") for job in missing]
        last = [stated_in(log.read_text(encoding="utf-8").strip()) for log in logs if log.is_file()]
        reason = "; ".join(line.removeprefix("error: ") for line in last) or str(error)
        raise DataError(f"settings have changed, so that images are needed again: {reason}") from error


def _fetch(missing: Sequence[str]) -> None:
    """Bring back those of the files that DVC tracks."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError

    if not missing:
        return
    files = DVCFileSystem()
    lost = []
    for path in missing:
        try:
            if not _is_tracked(files, path):
                continue
            with atomic_path(path) as scratch:
                files.get_file(path, str(scratch))
                _check_object(path, scratch, files.info(path))
        except DataError:
            raise
        except (DataIndexDirError, DvcException, FileNotFoundError, SharpminimaError):
            lost.append(path)
    if lost:
        raise SharpminimaError(
            f"{named(lost)}: tracked by DVC, but neither here, nor in its cache, nor in its default remote; "
            "`dvc pull` from a remote that has them (`dvc remote list`; `git checkout -- data/store` brings back what "
            "git has), or make them again with `snakemake`, which trains"
        )


def named(paths: Sequence[str]) -> str:
    """Files in a message: the first few, and how many more there are."""
    return ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


def _check_object(path: str, copy: Path, info: Mapping[str, Any]) -> None:
    """Refuse bytes that are not those which DVC has recorded: its reader does not look.

    Raises:
        DataError: they are others.
    """
    digest = info["md5"]
    with copy.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() == digest:
            return
    place = f"files/md5/{digest[:2]}/{digest[2:]}"
    raise DataError(
        f"{path}: its copy in DVC's cache or remote is damaged ({place} has not the MD5 that is its name); remove "
        f"{place} in .dvc/cache and, where the remote is data/store, `git checkout -- data/store`, then try again"
    )


def _is_tracked(files: "DVCFileSystem", path: str) -> bool:
    """Whether DVC has recorded the file.

    Raises:
        DataIndexDirError: its folder is recorded, and the list of what is in it is to be had nowhere.
    """
    from dvc.exceptions import OutputNotFoundError

    try:
        (out,) = files.repo.find_outs_by_path(path, strict=False)
    except OutputNotFoundError:
        return False
    if not out.hash_info:
        return False
    try:
        files.ls(path, detail=False)
    except FileNotFoundError:
        return False
    return True


def snakemake(layout: Layout, *arguments: str) -> str:
    """Run Snakemake on the study and return what it printed.

    Raises:
        SharpminimaError: it failed; the message ends with its last lines.
    """
    command = [sys.executable, "-m", "snakemake", "--config", f"study={layout.config.study}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-5:])
        raise SharpminimaError(f"Snakemake stopped with status {done.returncode}: {' '.join(arguments)}\n{last}")
    return done.stdout


def planned(layout: Layout, *arguments: str) -> dict[str, int]:
    """What Snakemake would do: rule -> number of jobs."""
    printed = snakemake(layout, "--dry-run", *arguments)
    table = printed.partition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}
