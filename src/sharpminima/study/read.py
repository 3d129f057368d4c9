"""The config and the study as files: found, read, expanded and checked."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sharpminima.base.errors import ConfigError
from sharpminima.base.yaml_input import parse_yaml, read_yaml
from sharpminima.catalogue import plugins
from sharpminima.study.expand import allow_lists, expand
from sharpminima.study.faults import nearest, validated
from sharpminima.study.schema import Config, Study

CONFIG_FILE = Path("config.yaml")
STUDIES = Path("workflow/studies")
_PATH = re.compile(r"\S*[./\\]\S*")  # what was meant as a file, rather than as settings


def load_config(
    config: Mapping[str, Any], origin: str = f"{CONFIG_FILE}", *, study_origin: str | None = None
) -> tuple[Config, Study]:
    """Validate a config and the study it names; every fault of both is reported at once.

    Args:
        origin: where the config stands, for what is said of its faults.
        study_origin: where its study was named; None: in the config.

    Raises:
        ConfigError: with one line a fault: where, what was given, what is allowed.
    """
    faults: list[str] = []
    checked = validated(Config, config, origin, faults)
    named = study_origin or f"{origin}: study"
    study = None
    name = config.get("study", Config.model_fields["study"].default)
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    namesake = STUDIES / f"{path.stem}.yaml"
    elsewhere = checked is not None and checked.results != Config.model_fields["results"].default
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", path.stem):
        faults.append(
            f"{named}: {str(name)!r} given; its name stands in paths: rename it to letters, digits, . _ -, "
            "a letter or digit first"
        )
    elif namesake.is_file() and path.is_file() and not path.samefile(namesake) and not elsewhere:
        faults.append(
            f"{named}: {path} would write into the results of {namesake}, whose name it has; rename it, or "
            "name another folder of results"
        )
    if path.is_file():
        value, places = expand(read_yaml(path))
        try:
            plugins.use(_plugin_files(value, path))
        except ConfigError as error:
            faults.append(f"{path}: plugins: {error}")  # names that it would bring are no faults of the study's
        else:
            study = validated(Study, value, str(path), faults, places)
    else:
        known = sorted(p.stem for p in STUDIES.glob("*.yaml"))
        there = (
            f"there are {', '.join(known)}"
            if known
            else f"{STUDIES} is not here: run this in the checkout's top folder"
        )
        if path.parent != STUDIES:
            there = f"there is no such file in {Path.cwd()}"
        faults.append(f"{named}: {name!r} given; {there}{nearest(str(name), known)}")
    if faults or checked is None or study is None:
        # A fault of what several experiments share is one fault.
        raise ConfigError("the config has faults:\n" + "\n".join(f"  {fault}" for fault in dict.fromkeys(faults)))
    return checked, study


def _plugin_files(study: Any, path: Path) -> list[Path]:
    """The plug-ins of a study as it stands in its file; what is no list of paths is for the typed models to find."""
    named = study.get("plugins") if isinstance(study, dict) else None
    return [path.parent / name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def read_config(study: str | None = None, text: str | None = None) -> tuple[Config, Study]:
    """The config of this checkout, as Snakemake would read it.

    Args:
        study: in place of the one that the config names.
        text: YAML or JSON, in place of ``config.yaml``.

    Raises:
        ConfigError: there is no ``config.yaml`` here, or the config or the study has faults.
    """
    if text is None and not CONFIG_FILE.is_file():
        raise ConfigError(f"{CONFIG_FILE}: there is none here; run this in the checkout's top folder")
    origin = f"{CONFIG_FILE}" if text is None else "--config"
    config = read_yaml(CONFIG_FILE) if text is None else parse_yaml(text, origin)
    if not isinstance(config, dict):
        raise ConfigError(f"{origin}: a mapping is needed, {config!r} given")
    if study is None:
        return load_config(config, origin)
    return load_config({**config, "study": study}, origin, study_origin="study")


def study_schema() -> dict[str, Any]:
    """The JSON schema of a study's file."""
    return allow_lists(Study.model_json_schema())


def parse_settings(model: type[BaseModel], text: str, origin: str) -> Any:
    """Settings given on a command line: YAML or JSON text, or the path of such a file.

    Raises:
        ConfigError: with one line a fault.
    """
    value = read_yaml(Path(text)) if Path(text[:255]).is_file() else parse_yaml(text, origin)
    if isinstance(value, str) and _PATH.fullmatch(value):
        raise ConfigError(f"{origin}: there is no file {value}; give one, or settings as in '{{lr: 0.1}}'")
    if not isinstance(value, dict):
        raise ConfigError(f"{origin}: {value!r} given; names with values are needed, as in '{{lr: 0.1}}'")
    faults: list[str] = []
    checked = validated(model, value, origin, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    return checked
