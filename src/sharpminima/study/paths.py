"""Where everything lies; one function a kind of file.

``results/<study>/runs/dataset/model/method/level/strategy/...`` holds what training makes, ``analysis/`` what is
measured at it, beside ``data/``, ``tables/`` and ``figures/``: whole folders, so that DVC tracks ``runs`` and
``analysis`` as one output each. The functions accept either values or wildcards (``"{seed}"``), so that a rule's
pattern and a target's path are one and the same line. Keywords are named as the wildcards are: ``level`` is a level's
name, as `sharpminima.base.names.level_name` writes it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sharpminima.base.files import COMPRESSED
from sharpminima.base.names import CELL, CHECKPOINT, DENSE, RUN
from sharpminima.catalogue.analyses import ANALYSES
from sharpminima.study.schema import Config, study_name

STAGES = ("runs", "analysis")
"""The stages of DVC that hold tracked files: what training makes, what is measured at it."""
PUBLISHED_ERRORS = "paper/published/mnist-pruned.csv"
"""What others have published for LeNet-300 and LeNet-5 on MNIST."""
BY_PUBLISHED_RECIPES = "methods-published"
MEASURED_BY_PUBLISHED_RECIPES = f"paper/measured/{BY_PUBLISHED_RECIPES}.csv"
"""What methods came to by the recipes that their authors published."""
PUBLISHED_DATASET = "mnist"
PAPER_SOURCES = ("paper/paper.typ", "paper/format.typ", "paper/references.bib", PUBLISHED_ERRORS)
"""What the paper is compiled from, the source that names the others first."""


@dataclass(frozen=True)
class Paths:
    """The paths of the study that a config names."""

    config: Config

    @property
    def name(self) -> str:
        """The study's name."""
        return study_name(self.config)

    @cached_property
    def root(self) -> str:
        """The study's folder."""
        return f"{self.config.results}/{self.name}"

    @property
    def runs_folder(self) -> str:
        """Folder of all that training makes: W0, checkpoints with their masks, histories."""
        return f"{self.root}/runs"

    @property
    def analysis_folder(self) -> str:
        """Folder of the tables that are measured at the checkpoints."""
        return f"{self.root}/analysis"

    @property
    def tables_folder(self) -> str:
        """Folder of the tables of the whole study, and of the numbers of its paper."""
        return f"{self.root}/tables"

    @property
    def figures_folder(self) -> str:
        """Folder of the figures, and of what each comes from."""
        return f"{self.root}/figures"

    def stage_folder(self, stage: str) -> str:
        """The folder that a stage of DVC tracks (see `STAGES`)."""
        return self.runs_folder if stage == "runs" else self.analysis_folder

    def record(self, stage: str) -> str:
        """What made each file of a stage: tracked with the files."""
        return f"{self.stage_folder(stage)}/record.json"

    def settings(self, stage: str) -> str:
        """The settings of a stage, on which its DVC stage depends."""
        return f"{self.root}/settings/{stage}.json"

    def prepared(self, dataset: str = "{dataset}") -> str:
        """The prepared dataset."""
        return f"{self.root}/data/{dataset}.safetensors"

    def init(self, dataset: str = "{dataset}", model: str = "{model}", seed: int | str = "{seed}", **_: Any) -> str:
        """W0 of a run."""
        return f"{self.runs_folder}/{dataset}/{model}/init/seed-{seed}.safetensors"

    def dense(
        self,
        file: str = CHECKPOINT,
        dataset: str = "{dataset}",
        model: str = "{model}",
        seed: int | str = "{seed}",
        **_: Any,
    ) -> str:
        """A file of a dense training."""
        return f"{self.runs_folder}/{dataset}/{model}/dense/seed-{seed}/{file}"

    def method(self, dataset: str = "{dataset}", model: str = "{model}", method: str = "{method}", **_: Any) -> str:
        """Folder of a method."""
        return f"{self.runs_folder}/{dataset}/{model}/{method}"

    def run_file(self, file: str, seed: int | str = "{seed}", **key: Any) -> str:
        """A file that a method's run writes beside its states."""
        return f"{self.method(**key)}/{RUN.format(seed=seed)}/{file}"

    def cell(
        self,
        file: str = CHECKPOINT,
        level: str = "{level}",
        strategy: str = "{strategy}",
        seed: int | str = "{seed}",
        **key: Any,
    ) -> str:
        """A file of one cell; the strategy ``gradual`` is the method's own state."""
        return f"{self.method(**key)}/{CELL.format(level=level, strategy=strategy, seed=seed)}/{file}"

    def analysis(
        self,
        name: str = "{analysis}",
        dataset: str = "{dataset}",
        model: str = "{model}",
        method: str = "{method}",
        level: str = "{level}",
        seed: int | str = "{seed}",
    ) -> str:
        """The table of one analysis of G and 1-S at one level of one run."""
        table = f"{self.analysis_folder}/{name}/{dataset}/{model}/{method}/level-{level}/seed-{seed}.csv"
        return f"{table}{COMPRESSED}" if name in ANALYSES and ANALYSES[name].large else table

    def transfer(self, to: str = "{to}", strategy: str = "{strategy}", **key: Any) -> str:
        """What the nets of one cell, or the dense net of one run, are worth on another dataset; lies beside them."""
        file = f"transfer-{to}.csv"
        return self.dense(file, **key) if strategy == DENSE else self.cell(file, strategy=strategy, **key)

    def table(self, name: str) -> str:
        """A table of the study."""
        return f"{self.tables_folder}/{name}.csv"

    def numbers(self) -> str:
        """All numbers of the paper's text and tables."""
        return f"{self.tables_folder}/numbers.json"

    def metrics(self) -> str:
        """The main numbers of the study, one a key: what ``dvc metrics`` shows."""
        return f"{self.tables_folder}/metrics.json"

    def figure(self, name: str) -> str:
        """A figure of the study, without its extension."""
        return f"{self.figures_folder}/{name}"

    def provenance(self, name: str) -> str:
        """The record of all that a figure comes from, beside it."""
        return f"{self.figure(name)}.json"

    def explorer(self) -> str:
        """The page of the study, to look through."""
        return f"{self.root}/explore.html"

    def paper(self) -> str:
        """The paper of the study; of results that lie elsewhere, too."""
        usual = self.config.results == Config.model_fields["results"].default
        return f"paper/build/{self.name}.pdf" if usual else f"{self.root}/{self.name}.pdf"
