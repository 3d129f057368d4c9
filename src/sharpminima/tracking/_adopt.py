"""Files that DVC has brought, taken as made by Snakemake."""

from pathlib import Path

from sharpminima.study.jobs import Layout
from sharpminima.study.paths import STAGES
from sharpminima.tracking._known import Known
from sharpminima.tracking._locks import snakemake_is_at_work
from sharpminima.tracking._notes import COMPARED, TIME_TOLERANCE_S, Notes
from sharpminima.tracking._record import Entry, read_record

_OLDER_NS = 1_000_000_000


def adopt(layout: Layout) -> int:
    """Give Snakemake the notes that belong to tracked files; returns the number of files that had none, or others.

    A file is adopted where its bytes are those of its record, unless Snakemake has made it here since the record was
    written. Its note then says what made it, whatever the config is now: Snakemake compares, and makes it again where
    settings have changed. DVC writes files in no order: a file gets the time back that it had with the same bytes, is
    no older than what it was made from, and older than an input that is another one now. Other files, and those of a
    study without records, are left alone.
    """
    records = [layout.record(stage) for stage in STAGES if Path(layout.record(stage)).is_file()]
    if not records or snakemake_is_at_work():
        return 0
    written_s = max(Path(record).stat().st_mtime for record in records)
    entries = [entry for stage in STAGES for entry in read_record(layout, stage)]
    tracked = {path for entry in entries for path in entry["outputs"]}
    notes, known = Notes(), Known()
    adopted = sum(_adopt(entry, tracked, written_s, notes, known) for entry in entries)
    known.save()
    return adopted


def data_to_make_first(layout: Layout, rules: set[str]) -> str | None:
    """What a user should do before Snakemake runs jobs of these rules, if data are among them that a clone lacks.

    What Snakemake makes outdates all that comes after it, even where the bytes are those of the record: `adopt` sees
    that only before the next run.
    """
    missing = [job.outputs[0] for job in layout.training_jobs() if job.rule == "prepare"]
    missing = [path for path in missing if not Path(path).exists()]
    if not missing or not {"prepare", "init"} <= rules or not Path(layout.record("runs")).is_file():
        return None
    return (
        f"{', '.join(missing)}: missing, and made in this run, would have everything made again that DVC has brought; "
        f"run `snakemake --cores 1 --config study={layout.config.study} -- data` first"
    )


def _adopt(entry: Entry, tracked: set[str], written_s: float, notes: Notes, known: Known) -> int:
    current = {path: known.sha256(path) for path in entry["inputs"]}
    same = [path for path, digest in entry["inputs"].items() if current[path] == digest]
    other = [path for path, digest in entry["inputs"].items() if current[path] not in (None, digest)]
    earliest = max((known.mtime_ns(path) for path in same if path in tracked), default=0)
    latest = min((known.mtime_ns(path) - _OLDER_NS for path in other), default=None)
    adopted = 0
    for path, digest in entry["outputs"].items():
        if known.sha256(path) != digest:
            continue
        note = notes.read(path)
        is_noted = is_made_here = False
        if note is not None:
            is_noted = all(note[name] == entry[name] for name in COMPARED)
            is_made_here = abs(note["endtime"] - known.mtime_ns(path) / 1e9) <= TIME_TOLERANCE_S
            if is_made_here and (is_noted or note["endtime"] > written_s):
                continue
        mtime_ns = known.mtime_ns(path)
        if not is_made_here:
            mtime_ns = max(known.earlier_mtime_ns(path) or mtime_ns, earliest)
            if latest is not None:
                mtime_ns = min(mtime_ns, latest)
            known.set_mtime_ns(path, mtime_ns)
        notes.write(path, entry, entry["inputs"], mtime_ns)
        adopted += not is_noted
    made = [known.mtime_ns(path) for path, digest in entry["outputs"].items() if known.sha256(path) == digest]
    for path in same:
        # Data made again, to the same bytes.
        if made and path.endswith(".safetensors") and path not in tracked and known.mtime_ns(path) > min(made):
            known.set_mtime_ns(path, min(made))
    return adopted
