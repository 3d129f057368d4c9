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
from sharpminima.study.owner import RECORD, other_owner
from sharpminima.study.schema import CLAIMS, Config, Study

CONFIG_FILE = Path("config.yaml")
STUDIES = Path("workflow/studies")
_SUFFIXES = (".yaml", ".yml")
_RENAME = "rename it, or name another folder of results"
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
    path = study_file(str(name))
    namesake = STUDIES / f"{path.stem}.yaml"
    elsewhere = checked is not None and checked.results != Config.model_fields["results"].default
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", path.stem):
        faults.append(
            f"{named}: {str(name)!r} given; its name stands in paths: rename it to letters, digits, . _ -, "
            "a letter or digit first"
        )
    elif _is_file(namesake) and _is_file(path) and not path.samefile(namesake) and not elsewhere:
        faults.append(f"{named}: {path} would write into the results of {namesake}, whose name it has; {_RENAME}")
    elif checked is not None and _is_file(path) and (owner := other_owner(path, Path(checked.results, path.stem))):
        faults.append(
            f"{named}: {path} would write into {checked.results}/{path.stem}, which has the results of {owner} "
            f"({RECORD} there leads to it); {_RENAME}"
        )
    if _is_file(path):
        value, places = expand(read_yaml(path))
        try:
            plugins.use(_plugin_files(value, path))
        except ConfigError as error:
            faults.append(f"{path}: plugins: {error}")  # names that it would bring are no faults of the study's
        else:
            study = validated(Study, value, str(path), faults, places)
            faults += _faults_of_ledger(study, path)
    else:
        faults.append(f"{named}: {name!r} given; {_why_not(str(name), path)}")
    if faults or checked is None or study is None:
        # A fault of what several experiments share is one fault.
        raise ConfigError("the config has faults:\n" + "\n".join(f"  {fault}" for fault in dict.fromkeys(faults)))
    return checked, study


def study_file(name: str) -> Path:
    """The file of a study that is given by its name or its path.

    >>> study_file("demo").as_posix(), study_file("own/mine.yaml").as_posix()
    ('workflow/studies/demo.yaml', 'own/mine.yaml')
    """
    return Path(name) if name.endswith(_SUFFIXES) else STUDIES / f"{name}.yaml"


def _why_not(name: str, path: Path) -> str:
    """Why no study is read from a path, which a name stands for, and what would be."""
    known = sorted(p.stem for p in STUDIES.glob("*.yaml"))
    by_path = path.parent != STUDIES
    if fault := _not_looked_at(path):
        return fault
    if path.is_dir() or (by_path and Path(name).is_dir()):
        return "is a folder; name the study's file in it"
    if not name.endswith(_SUFFIXES) and _is_file(name):
        return "a study's name ends in .yaml: rename the file"
    if by_path:
        return f"there is no such file in {Path.cwd()}{nearest(name, known)}"
    if not known:
        return f"{STUDIES} is not here: run this in the checkout's top folder"
    return f"there are {', '.join(known)}{nearest(name, known)}"


def _is_file(path: str | Path) -> bool:
    """Whether there is a file; none where the path cannot be looked at, which is no fault yet."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _not_looked_at(path: Path) -> str | None:
    """What keeps a path from being looked at, such as a folder that may not be entered."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:  # a character that no path may have, of which the name's own fault tells
        return None
    return None


def _faults_of_ledger(study: Study | None, path: Path) -> list[str]:
    """What is wrong with the file that a study names as its ledger: it is read after all training.

    Its claims are checked by who may import the report; the paper's own ledger is a part of the checkout.
    """
    if study is None or study.ledger == CLAIMS:
        return []
    try:
        read_yaml(study.ledger)
    except ConfigError as error:
        return [f"{path}: ledger: {error}; name a file of claims, from the checkout's top folder"]
    return []


def _plugin_files(study: Any, path: Path) -> list[Path]:
    """The plug-ins of a study as it stands in its file.

    Raises:
        ConfigError: they are no list of paths; without them every name that they bring would seem to be a fault.
    """
    named = study.get("plugins", []) if isinstance(study, dict) else []
    if not isinstance(named, list):
        files = [named] if isinstance(named, str) else named if isinstance(named, dict) else ["mine.py"]
        shown = ", ".join(map(str, files))
        raise ConfigError(f"{named!r} given; a list of files is needed, as in [{shown}]")
    if strange := [name for name in named if not isinstance(name, str) or not name]:
        raise ConfigError(f"{strange[0]!r} stands in the list; each is the path of a file, as in [mine.py]")
    return [path.parent / name for name in named]


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
    value = read_yaml(Path(text)) if _is_file(text) else parse_yaml(text, origin)
    if isinstance(value, str) and _PATH.fullmatch(value):
        raise ConfigError(f"{origin}: there is no file {value}; give one, or settings as in '{{lr: 0.1}}'")
    if not isinstance(value, dict):
        raise ConfigError(f"{origin}: {value!r} given; names with values are needed, as in '{{lr: 0.1}}'")
    faults: list[str] = []
    checked = validated(model, value, origin, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    return checked
