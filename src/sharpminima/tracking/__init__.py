"""Snakemake and DVC on the same files: what the one has made and the other keeps, both take as made.

Snakemake decides by its own notes (parameters, inputs, times) whether a file is up to date; they stay on the machine
where it ran. DVC brings files without them. So each tracked folder holds a record of what made its files, written from
Snakemake's notes (`write_record`) and given back to Snakemake where DVC has put the same bytes (`adopt`).
"""

from sharpminima.tracking._adopt import adopt, data_to_make_first
from sharpminima.tracking._aside import set_aside
from sharpminima.tracking._due import due, stale
from sharpminima.tracking._locks import dvc_at_work, hold, snakemake_is_at_work
from sharpminima.tracking._record import write_record, write_settings
from sharpminima.tracking._restore import restore
from sharpminima.tracking._track import track, track_finished, track_without_nets, tracked_studies
from sharpminima.tracking._unnoted import unnoted

__all__ = [
    "adopt",
    "data_to_make_first",
    "due",
    "dvc_at_work",
    "hold",
    "restore",
    "set_aside",
    "snakemake_is_at_work",
    "stale",
    "track",
    "track_finished",
    "track_without_nets",
    "tracked_studies",
    "unnoted",
    "write_record",
    "write_settings",
]
