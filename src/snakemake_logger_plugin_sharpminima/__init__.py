"""Snakemake's log of a run as bars on a terminal: one of the whole run, one a rule under way.

Where there is no terminal, and for a dry run, this handler does nothing, and Snakemake prints its usual lines. The log
file in ``.snakemake/log`` has those in any case. Snakemake finds a plugin by its module's name and imports it at each
start, so that what draws is imported by a run on a terminal alone; ``logger: sharpminima`` in a profile asks for it.
"""

import logging
import os
import sys
from collections import Counter
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

_FAILURES = (LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
_CHATTER = (
    "Assuming unrestricted shared filesystem",
    "Building DAG of jobs",
    "Provided cores",
    "Rules claiming more threads",
    "Select jobs to execute",
    "Using shell",
    "host:",
)
"""How messages begin that say nothing which the bars, or the next message, do not."""
_WHOLE = "all jobs"


class LogHandler(LogHandlerBase):
    """The bars, and above them what needs to be read: warnings, failures with their logs, the run's end."""

    def __post_init__(self) -> None:
        self._bars = _Bars() if _is_live(self.common_settings) else None

    def emit(self, record: logging.LogRecord) -> None:
        """Draw, or print above the bars as Snakemake would."""
        if self._bars is None:
            return
        try:
            event = getattr(record, "event", None)
            if event is None or event in _FAILURES:
                text = self.format(record).strip()
                if text and not text.startswith(_CHATTER):
                    self._bars.say(text, record.levelno)
            self._bars.see(event, record.__dict__)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Whether it takes the place of Snakemake's own lines."""
        return self._bars is not None

    @property
    def writes_to_file(self) -> bool:
        """Never."""
        return False

    @property
    def has_filter(self) -> bool:
        """Snakemake's own serves, which knows ``--quiet``."""
        return False

    @property
    def has_formatter(self) -> bool:
        """Snakemake's own serves, which shows the logs of failed jobs."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """Never."""
        return False


def _is_live(settings: Any) -> bool:
    plain = settings.dryrun or settings.quiet or settings.verbose or settings.debug_dag or settings.nocolor
    return not plain and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Bars:
    """Bars of what is done, by Snakemake's events."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[running]} running"),
            TimeElapsedColumn(),
            console=self._console,
            expand=True,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}  # rule -> its bar
        self._rules: dict[int, str] = {}  # job -> rule
        self._running: set[int] = set()  # jobs
        self._totals: Counter[str] = Counter()  # jobs of each rule, by the plan
        self._done: Counter[str] = Counter()

    def see(self, event: str | None, facts: dict[str, Any]) -> None:
        """Take in one event of the run."""
        if event == LogEvent.RUN_INFO and not self._tasks:
            self._totals.update({rule: count for rule, count in facts["stats"].items() if rule != "total"})
            self._bar(_WHOLE)
            self._progress.start()
        elif event == LogEvent.JOB_INFO:
            self._rules[facts["jobid"]] = facts["rule_name"]
            self._running.add(facts["jobid"])
            self._draw(facts["rule_name"])
        elif event == LogEvent.JOB_FINISHED:
            self._running.discard(facts["job_id"])
            rule = self._rules.get(facts["job_id"], _WHOLE)
            self._done[rule] += 1
            self._draw(rule)
        elif event == LogEvent.JOB_ERROR:
            self._running.discard(facts["jobid"])
            self._draw(facts["rule_name"])

    def say(self, text: str, level: int) -> None:
        """Print above the bars."""
        style = "red" if level >= logging.ERROR else "yellow" if level >= logging.WARNING else None
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bars away; a second time does nothing."""
        self._progress.stop()

    def _bar(self, rule: str) -> Any:
        if rule not in self._tasks:
            total = self._totals.total() if rule == _WHOLE else self._totals[rule]
            self._tasks[rule] = self._progress.add_task(rule, total=total, running=0)
        return self._tasks[rule]

    def _draw(self, rule: str) -> None:
        running = sum(self._rules[job] == rule for job in self._running)
        done = self._done[rule]
        under_way = running > 0 or done < self._totals[rule]  # a finished rule makes room
        self._progress.update(self._bar(rule), completed=done, running=running, visible=under_way)
        self._progress.update(self._bar(_WHOLE), completed=self._done.total(), running=len(self._running))
