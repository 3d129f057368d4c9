"""What one look at a machine has found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    grade: Literal["ok", "note", "missing"]  # note: something is not there, and nothing needs it
    said: str  # what is there, or is not
    cure: str = ""  # of what is missing: what to do

    def __post_init__(self) -> None:
        assert bool(self.cure) or self.grade != "missing", f"{self.subject}: what is missing has a cure"


def describe(findings: Iterable[Finding]) -> str:
    """A line a finding, and below it the cure.

    >>> print(describe([Finding("disk", "ok", "7 GB free"), Finding("locks", "missing", "one is left", "remove it")]))
    ok       disk   7 GB free
    missing  locks  one is left
                    -> remove it
    """
    every, lines = list(findings), []
    width = max((len(finding.subject) for finding in every), default=0)
    for finding in every:
        lines.append(f"{finding.grade:<8} {finding.subject:<{width}}  {finding.said}")
        if finding.cure:
            lines.append(f"{'':<{width + 9}}  -> {finding.cure}")
    return "\n".join(lines)
