"""The plug-ins whose entries a job uses: among its settings, and options of its command."""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.catalogue.figures import FIGURES, OfFocus
from sharpminima.catalogue.models import unlabelled
from sharpminima.catalogue.plugins import Plugin, bringing
from sharpminima.study.schema import Study

_USED = {
    "prepare": {"dataset": "dataset"},
    "init": {"dataset": "dataset", "model": "model"},
    "dense": {"dataset": "dataset", "model": "model"},
    "prune": {"dataset": "dataset", "model": "model", "method": "method"},
    "retrain": {"dataset": "dataset", "model": "model"},  # the method's masks are files
    "transfer": {"to": "dataset", "model": "model"},
    "analyse": {"dataset": "dataset", "model": "model", "analysis": "analysis"},
}
"""Step -> wildcards that name entries whose code it runs, and of what kind these are."""


def used_by(step: str, **key: Any) -> list[Plugin]:
    """The plug-ins of a job, by its wildcards."""
    return bringing(*((kind, unlabelled(key[wildcard])) for wildcard, kind in _USED[step].items()))


def used_by_numbers(study: Study) -> list[Plugin]:
    """Those that the numbers of a study need: methods' kinds, datasets' sizes, what is said of analyses."""
    datasets = [("dataset", experiment.dataset) for experiment in study.experiments]
    said = [("analysis", name) for name, analysis in ANALYSES.items() if analysis.summary and _asked_for(study, name)]
    return bringing(*_methods(study), *datasets, *said)


def _asked_for(study: Study, analysis: str) -> bool:
    return any(getattr(e.analysis, analysis, None) is not None for e in study.experiments)


def used_by_figure(study: Study, name: str) -> list[Plugin]:
    """Those of a figure itself, of the analyses that it reads, and of the methods that it may show."""
    read = [source.analysis for source in FIGURES[name].reads.values() if isinstance(source, OfFocus)]
    return bringing(("figure", name), *(("analysis", analysis) for analysis in read), *_methods(study))


def _methods(study: Study) -> list[tuple[str, str]]:
    return [("method", experiment.method.name) for experiment in study.experiments]


def as_settings(plugins: Iterable[Plugin]) -> dict[str, Any]:
    """File -> SHA-256, or distribution -> version, as a setting; nothing without plug-ins."""
    versions = {plugin.name: plugin.version for plugin in plugins}
    return {"plugins": versions} if versions else {}


def files_of(settings: Mapping[str, Any]) -> list[str]:
    """The files among the plug-ins of a job's settings."""
    return [name for name, version in settings.get("plugins", {}).items() if re.fullmatch("[0-9a-f]{64}", version)]


def as_options(plugins: Iterable[Plugin]) -> str:
    """Options of a command, after a space each; nothing without plug-ins."""
    return "".join(f" --plugin {shlex.quote(str(plugin))}" for plugin in plugins)
