"""The config and the studies: typed models are the one source, the JSON schemas are generated from them."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    RootModel,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from sharpminima.base.errors import ConfigError
from sharpminima.base.names import DENSE, FINEST_LEVEL, GRADUAL, checked_level
from sharpminima.base.settings import MOST_REPLICAS, MOST_THREADS, Distinct, Seed, Settings
from sharpminima.catalogue.analyses import ANALYSES, Analysis, of_dense, too_few_images
from sharpminima.catalogue.datasets import DATASETS
from sharpminima.catalogue.figures import FIGURES, PAPER_FIGURES, EntropyWays, OfFocus, PathEvents, Transfers
from sharpminima.catalogue.methods import METHODS, Method
from sharpminima.catalogue.models import LABEL, MODELS
from sharpminima.catalogue.plugins import bringing
from sharpminima.catalogue.recipes import BatchNormSettings, PspEntropySettings, RecipeSettings
from sharpminima.catalogue.registry import LabelledNameIn, NameIn
from sharpminima.catalogue.strategies import STRATEGIES

CLAIMS = "paper/claims.yaml"
"""The ledger of the paper's claims."""
Level = Annotated[
    float,
    Field(ge=FINEST_LEVEL, le=1 - FINEST_LEVEL, description="share of prunable parameters removed"),
    AfterValidator(checked_level),
]
DatasetName = Annotated[str, NameIn(DATASETS)]
MethodName = Annotated[str, NameIn(METHODS)]
ModelName = Annotated[str, LabelledNameIn(MODELS, label=LABEL)]
StrategyName = Annotated[str, NameIn(STRATEGIES)]
FigureName = Annotated[str, NameIn(FIGURES)]


@dataclass(frozen=True)
class Catalogued:
    """Marks a setting whose models are made of the catalogue's entries as they are when the setting is read."""

    models: Callable[[], tuple[type[BaseModel], ...]]  # several: the setting's ``name`` chooses
    definition: str | None = None  # the name of their own that they have in the JSON schema

    def _adapter(self) -> TypeAdapter[Any]:
        return _adapter_of(self.models())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """For pydantic."""
        return core_schema.no_info_plain_validator_function(
            lambda given: self._adapter().validate_python(given), ref=self.definition
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """For pydantic."""
        made = self._adapter().core_schema
        if made.get("ref"):  # else it would stand in the place of the setting
            made = core_schema.definitions_schema(core_schema.definition_reference_schema(made["ref"]), [made])
        return handler(made)


@cache
def _adapter_of(models: tuple[type[BaseModel], ...]) -> TypeAdapter[Any]:
    if len(models) == 1:
        return TypeAdapter(models[0])
    union: Any = Annotated[Union[models], Field(discriminator="name")]  # noqa: UP007 (built at run time)
    return TypeAdapter(union)


@cache
def method_model(method: Method) -> type[BaseModel]:
    return create_model(method.name, __base__=method.settings, name=(Literal[method.name], ...))  # type: ignore[arg-type] # a type made at run time


def _method_models() -> tuple[type[BaseModel], ...]:
    """The settings of each method, with its name among them."""
    return tuple(method_model(method) for method in METHODS.values())


class _Analyses(Settings):
    """Base of the settings of all analyses: those of plug-ins are made where a study names them."""

    @model_serializer(mode="wrap")
    def _named(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: settings for name, settings in dump(self).items() if settings is not None}


MADE_OF = "runs"
"""The setting of an analysis by which a study says in which runs it is made; its step does not take it."""


@cache
def _asked_model(analysis: Analysis) -> type[BaseModel]:
    """The settings of an analysis, with the runs in which it is made where no figure says which."""
    settings: type[BaseModel] = analysis.settings
    if MADE_OF in settings.model_fields:
        raise ConfigError(
            f"the analysis {analysis.name} has a setting {MADE_OF}, by which a study says in which runs it is made; "
            "give it another name"
        )
    if analysis.when == "shown":
        return settings
    of = "runs that `maps` names" if analysis.when == "mapped" else "experiment's runs"
    described = Field(
        "all",
        exclude_if=lambda runs: runs == "all",  # it came after the first records
        description=f"those of the {of} in which it is made: the first so many, or seeds",
    )
    more: dict[str, Any] = {MADE_OF: (Runs, described)}
    return create_model(settings.__name__, __base__=settings, __doc__=settings.__doc__, **more)


@cache
def _analysis_model(analyses: tuple[Analysis, ...], brought: tuple[Analysis, ...]) -> type[BaseModel]:
    models = {analysis.name: _asked_model(analysis) for analysis in (*analyses, *brought)}
    fields: dict[str, Any] = {analysis.name: (models[analysis.name], models[analysis.name]()) for analysis in analyses}
    fields |= {analysis.name: (models[analysis.name] | None, None) for analysis in brought}
    return create_model(
        "AnalysisSettings",
        __base__=_Analyses,
        __doc__="What is measured at G and 1-S, on the plane through them, and on the line between them.",
        **fields,
    )


def _analysis_models() -> tuple[type[BaseModel], ...]:
    """The settings of all analyses, by their names."""
    brought = tuple(entry for name, entry in ANALYSES.items() if bringing(("analysis", name)))
    return (_analysis_model(tuple(entry for entry in ANALYSES.values() if entry not in brought), brought),)


MethodSettings = Annotated[Any, Catalogued(_method_models)]
AnalysisSettings = Annotated[Any, Catalogued(_analysis_models, "AnalysisSettings")]


class MethodChoice(RootModel[MethodSettings]):
    """A method's name and settings, by themselves."""


class DataSettings(Settings):
    """How the training images are split."""

    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Seed = 0


RunChoice = int | str | tuple[int, ...]
"""``all``, ``first``, the first so many, or seeds."""


def chosen(runs: RunChoice, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the seeds that a setting names, in their order."""
    if isinstance(runs, tuple):
        return tuple(seed for seed in seeds if seed in runs)
    return {"all": seeds, "first": seeds[:1]}[runs] if isinstance(runs, str) else seeds[:runs]


def measurable_runs(experiment: "Experiment", analysis: str, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Those of an experiment's runs (``seeds``) from which the setting ``runs`` of an analysis chooses."""
    if experiment.maps is None or ANALYSES[analysis].when != "mapped":
        return seeds
    return chosen(experiment.maps, seeds)


def measured_runs(experiment: "Experiment", analysis: str, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Those of an experiment's runs (``seeds``) in which an analysis is made; none where it has no settings."""
    settings = getattr(experiment.analysis, analysis, None)
    if settings is None:
        return ()
    return chosen(getattr(settings, MADE_OF, "all"), measurable_runs(experiment, analysis, seeds))


def _unknown_runs(
    name: str, runs: RunChoice | None, seeds: tuple[int, ...], own: tuple[int, ...], of: str = "experiment"
) -> Iterator[str]:
    """The fault of a setting that names runs which are not there.

    A number may be above that of an experiment's own runs, all of which it then means: experiments share settings.

    Args:
        seeds: of the study.
        own: of those, the ones that the setting chooses from.
        of: whose these are.
    """
    if isinstance(runs, int) and runs > len(seeds):
        yield f"{name}: {runs} runs wanted; the study has {list(seeds)}"
    if isinstance(runs, tuple) and (unknown := sorted(set(runs) - set(own))):
        yield f"{name}: run {unknown[0]} wanted; the {of} has {list(own)}"


def _known_runs(given: Any, validate: ValidatorFunctionWrapHandler) -> RunChoice:
    """One fault in place of one for each type that runs may have."""
    try:
        runs: RunChoice = validate(given)
    except ValidationError:
        runs = ()
    if isinstance(runs, tuple):
        known = len(set(runs)) == len(runs) > 0
    else:
        known = runs in ("all", "first") or (isinstance(runs, int) and runs >= 1)
    if not known:
        shown = "nothing" if given is None else list(given) if isinstance(given, tuple) else repr(given)
        raise ValueError(f"{shown} given; all, first or a number of runs, or a list of different seeds, is needed")
    return runs


_SEEDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True}
Runs = Annotated[
    RunChoice,
    WrapValidator(_known_runs),
    WithJsonSchema({"anyOf": [{"enum": ["all", "first"]}, {"type": "integer", "minimum": 1}, _SEEDS]}),
]


class Retraining(Settings):
    """Of what, and how often, a strategy retrains."""

    replicas: Annotated[int, Field(gt=0, le=MOST_REPLICAS)] = 1
    levels: Literal["all", "highest"] = "all"


class StrategySettings(Retraining):
    """How a retraining strategy is replicated."""

    seeds: Annotated[Runs, Field(description="the runs whose masks are retrained: the first so many, or seeds")] = (
        "first"
    )
    others: Retraining | None = Field(None, description="of the experiment's other runs; null: they are not retrained")

    @property
    def most_replicas(self) -> int:
        """Of any run."""
        return max(self.replicas, self.others.replicas if self.others else 1)


class TransferSettings(Settings):
    """What the features of trained nets are worth on another dataset, with the last layer drawn anew."""

    revision: Literal[1] = 1
    to: DatasetName
    modes: Annotated[
        tuple[Literal["probe", "finetune"], ...],
        Field(min_length=1, description="probe: only the last layer is trained; finetune: everything that survives"),
        Distinct,
    ] = ("probe", "finetune")
    sources: Annotated[
        tuple[Annotated[str, NameIn(STRATEGIES, before=(DENSE, GRADUAL))], ...],
        Field(min_length=1, description="at the highest level"),
        Distinct,
    ] = (DENSE, GRADUAL, "rewind", "random-structure")
    probe: RecipeSettings = Field(RecipeSettings(lr=10.0), description="on features of mean squared norm 1")
    finetune: RecipeSettings | None = Field(None, description="null: the recipe of the experiment's dense training")

    def resolved(self, dense: RecipeSettings) -> "TransferSettings":
        """The same with the recipe of dense training where none is given."""
        return self if self.finetune else self.model_copy(update={"finetune": dense})


Precision = Literal["float32", "tf32", "bfloat16"]


class Experiment(Settings):
    """One combination of dataset, model and method: a panel of Fig. 1."""

    dataset: DatasetName
    model: ModelName
    method: MethodSettings
    seeds: Annotated[Runs, Field(description="the study's runs that this experiment has: the first so many")] = "all"
    batchnorm: BatchNormSettings | None = Field(
        None, description="of all experiments with this dataset and model; null: the usual one"
    )
    psp_entropy: PspEntropySettings | None = Field(
        None,
        exclude_if=lambda settings: settings is None,
        description="a part of what dense training, the method and all retraining minimise, of all experiments with "
        "this dataset and model; several ways of one net have labels: model: lenet300@plus",
    )
    precision: Precision | None = Field(
        None,
        exclude_if=lambda precision: precision is None,
        description="of all training of all experiments with this dataset and model; null: that of config.yaml",
    )
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    weights_from: Annotated[
        Level | None,
        Field(
            description="lowest level at which all replicas of a retraining keep their weights; below it the first "
            "does, and of the others masks, metrics and predictions on the test images are kept. null: all keep them"
        ),
    ] = None
    weights: Literal["all", "highest"] = Field(
        "all",
        description="levels whose nets keep weights; with highest, dense nets and those of lower levels keep masks, "
        "metrics and predictions on the test images alone, and no dense net is taken to another dataset",
    )
    keep_all: Runs | None = Field(
        None, description="runs whose nets keep their weights whatever `weights` says: the first so many, or seeds"
    )
    dense: RecipeSettings = RecipeSettings()
    strategies: dict[StrategyName, StrategySettings] = Field(default_factory=dict)
    analysis: AnalysisSettings | None = None
    maps: Annotated[
        Runs | None,
        Field(
            description="the runs whose plane through G and 1-S is mapped, with eigenvalues along their line (of fewer "
            "by analysis.line.runs): the first so many, or seeds; null: those that figures show"
        ),
    ] = None
    transfer: TransferSettings | None = None

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if any(above - below < FINEST_LEVEL / 2 for below, above in itertools.pairwise(levels)):
            raise ValueError(f"levels must ascend without repetition; {list(levels)} given")
        return levels

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        shape, wanted = DATASETS[self.dataset].shape, MODELS[self.model].shape
        if shape != wanted:
            fitting = ", ".join(name for name, model in MODELS.items() if model.shape == shape)
            raise ValueError(
                f"{self.model} takes images {wanted}, {self.dataset} has {shape}; models that fit: {fitting}"
            )
        if METHODS[self.method.name].needs_units and not MODELS[self.model].facts.has_units:
            raise ValueError(
                f"{self.method.name} removes filters and hidden units, and {self.model} has none that can be left out; "
                "take another model, or a method that removes single weights"
            )
        if self.batchnorm is not None and not MODELS[self.model].facts.has_batchnorm:
            raise ValueError(f"batchnorm: {self.model} has none; leave it out, or take another model")
        for name, wanted_ranks in self._eigenvalues():
            if wanted_ranks > (most := round(MODELS[self.model].facts.prunable * (1 - self.levels[-1]))):
                raise ValueError(f"analysis.{name}.eigenvalues: {wanted_ranks} given; about {most} parameters survive")
        for name, settings in self.analysis or ():
            if settings is not None and ANALYSES[name].holds_statistics:
                classes = DATASETS[self.dataset].num_classes
                if fault := too_few_images(settings.images, self.dataset, classes):
                    raise ValueError(f"analysis.{name}.images: {fault}")
        for name, settings in self.strategies.items():
            if settings.most_replicas > 1 and not STRATEGIES[name].draws:
                raise ValueError(
                    f"strategies.{name}.replicas: {settings.most_replicas} given; nothing is drawn, so 1 is all"
                )
        rewind = self.strategies.get("rewind")
        if self.analysis and (rewind is None or rewind.seeds not in ("all", self.seeds)):
            raise ValueError("analysis compares G with 1-S in every run: it needs strategies.rewind with seeds: all")
        if self.maps is not None and self.analysis is None:
            raise ValueError("maps are analyses of G and 1-S, and the experiment has none; add analysis: {}")
        if self.transfer:
            if self.transfer.to == self.dataset:
                raise ValueError(f"transfer.to: {self.dataset} given, which the nets are trained on; name another")
            if (other := DATASETS[self.transfer.to].shape) != wanted:
                raise ValueError(f"transfer.to: {self.model} takes images {wanted}, {self.transfer.to} has {other}")
            absent = set(self.transfer.sources) - {DENSE, GRADUAL, *self.strategies}
            if absent:
                raise ValueError(f"transfer.sources: {', '.join(sorted(absent))} given, which strategies does not name")
        return self

    def _eigenvalues(self) -> Iterator[tuple[str, int]]:
        """Each analysis that finds eigenvalues, and how many."""
        for name, settings in self.analysis or ():
            if (wanted := getattr(settings, "eigenvalues", None)) is not None:
                yield name, wanted


def kept_weights(experiment: Experiment, seed: int, seeds: tuple[int, ...]) -> Literal["all", "highest"]:
    """The levels whose nets keep their weights in one run, of those of the net (see `Study.runs_of_net`)."""
    keeping = () if experiment.keep_all is None else chosen(experiment.keep_all, seeds)
    return "all" if seed in keeping else experiment.weights


def _dense_transfer_of(experiment: Experiment) -> tuple[str, str, str] | None:
    """Dataset and model of dense nets, and the dataset that they are taken to; None: they are not."""
    if experiment.transfer is None or DENSE not in experiment.transfer.sources:
        return None
    return experiment.dataset, experiment.model, experiment.transfer.to


def _at_experiment(place: int, fault: str) -> InitErrorDetails:
    """A fault for pydantic, as one of the experiment's own would be."""
    return InitErrorDetails(
        type="value_error", loc=("experiments", place), input=None, ctx={"error": ValueError(fault)}
    )


class Focus(Settings):
    """The experiment that Fig. 2-5 show."""

    dataset: DatasetName
    model: ModelName
    method: MethodName | None = Field(
        None,
        exclude_if=lambda method: method is None,
        description="null: the first of that dataset and model with an analysis",
    )

    def is_of(self, experiment: Experiment) -> bool:
        """Whether an experiment has the dataset, the model and the method."""
        named = (self.dataset, self.model, self.method or experiment.method.name)
        return named == (experiment.dataset, experiment.model, experiment.method.name)

    def __str__(self) -> str:
        return f"{self.model} on {self.dataset}" + (f" by {self.method}" if self.method else "")


class Study(Settings):
    """What to run."""

    title: str
    seeds: Annotated[
        tuple[Seed, ...],
        Field(min_length=1, description="whole runs: W0, dense, method, rewind"),
    ] = (0,)
    data: DataSettings = DataSettings()
    experiments: Annotated[tuple[Experiment, ...], Field(min_length=1)]
    figures: Annotated[tuple[FigureName, ...], Distinct] = PAPER_FIGURES[:5]
    focus: Focus | None = None
    plugins: Annotated[tuple[str, ...], Distinct] = Field(
        (), description="files, from the study's folder, that bring methods, models, datasets, analyses and figures"
    )
    paper: bool = Field(True, description="whether the study ends with the paper's PDF")
    ledger: str = Field(
        CLAIMS,
        exclude_if=CLAIMS.__eq__,
        description="the claims that the study's numbers are held against, and their rules",
    )
    notes: Annotated[
        tuple[str, ...], Field(description="what the paper says below the settings, such as how they were chosen")
    ] = ()

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds must differ; {list(seeds)} given")
        return seeds

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        names = [(e.dataset, e.model, e.method.name) for e in self.experiments]
        if len(set(names)) < len(names):
            raise ValueError(f"each experiment (dataset, model, method) stands once; {names} given")
        if faults := [(place, fault) for place in range(len(self.experiments)) for fault in self._faults_of(place)]:
            raise ValidationError.from_exception_data("Study", [_at_experiment(*fault) for fault in faults])
        self._check_figures()
        if self.focus is not None and not any(map(self.focus.is_of, self.experiments)):
            there = ", ".join(f"{e.model} on {e.dataset} by {e.method.name}" for e in self.experiments)
            raise ValueError(f"focus: {self.focus} is none of the experiments; there are {there}")
        return self

    def _faults_of(self, place: int) -> Iterator[str]:
        """What is wrong with an experiment beside those before it, and with the runs that it names."""
        experiment = self.experiments[place]
        yield from self._unlike_first(experiment)
        yield from self._unlike_first_transfer(experiment)
        seeds = chosen(experiment.seeds, self.seeds)
        if wrong := list(_unknown_runs("seeds", experiment.seeds, self.seeds, self.seeds, "study")):
            yield from wrong  # and not of what would be chosen from them
            return
        for strategy, settings in experiment.strategies.items():
            yield from _unknown_runs(f"strategies.{strategy}.seeds", settings.seeds, self.seeds, seeds)
        yield from _unknown_runs("keep_all", experiment.keep_all, self.seeds, self.runs_of_net(experiment), "net")
        wrong = list(_unknown_runs("maps", experiment.maps, self.seeds, seeds))
        yield from wrong or self._faults_of_analysis(experiment)

    def _unlike_first(self, experiment: Experiment) -> Iterator[str]:
        """What differs from the first experiment of one dataset and model, and may not."""
        name = (experiment.dataset, experiment.model)
        first = next(e for e in self.experiments if (e.dataset, e.model) == name)
        shared = "its experiments share their dense nets"
        if first.batchnorm != experiment.batchnorm:
            yield f"batchnorm: {name} has two; its experiments share their W0, give all the same"
        if first.dense != experiment.dense:
            yield f"dense: {name} has two; {shared}, and the recipe of all retraining: give all the same"
        if first.precision != experiment.precision:
            yield f"precision: {name} has two; {shared}, give all the same"
        if first.psp_entropy != experiment.psp_entropy:
            yield (
                f"psp_entropy: {name} has two; {shared}, give all the same, or another way a label of its own: "
                f"model: {experiment.model}@plus"
            )
        if (first.weights, first.keep_all) != (experiment.weights, experiment.keep_all):
            yield f"weights: {name} has two; {shared}, give all the same"

    def _unlike_first_transfer(self, experiment: Experiment) -> Iterator[str]:
        """Experiments of one dataset and model share the table of a dense net's transfer, too."""
        if (nets := _dense_transfer_of(experiment)) is None:
            return
        first = next(e for e in self.experiments if _dense_transfer_of(e) == nets)
        wanted, own = (e.transfer.resolved(e.dense) for e in (first, experiment) if e.transfer)
        if wanted.model_copy(update={"sources": own.sources}) != own:
            name = (experiment.dataset, experiment.model)
            yield f"transfer: {name} has two to {own.to}; its experiments share their dense nets, give all the same"

    def _faults_of_analysis(self, experiment: Experiment) -> Iterator[str]:
        seeds, of_net = chosen(experiment.seeds, self.seeds), self.runs_of_net(experiment)
        for name, settings in experiment.analysis or ():
            if settings is None:
                continue
            among = measurable_runs(experiment, name, seeds)
            of = "experiment" if among == seeds else "setting maps"
            yield from _unknown_runs(f"analysis.{name}.runs", getattr(settings, MADE_OF, None), self.seeds, among, of)
            measured = measured_runs(experiment, name, seeds) if of_dense(settings) else ()
            if without := [seed for seed in measured if kept_weights(experiment, seed, of_net) != "all"]:
                yield (
                    f"analysis.{name}.dense: the dense net of run {min(without)} keeps no weights; "
                    f"take weights: {experiment.weights} out, or give keep_all: {len(of_net)}"
                )

    def _check_figures(self) -> None:
        """Refuse figures of what the study does not have."""
        drawn = [FIGURES[name] for name in self.figures]
        if any(figure.needs(OfFocus) for figure in drawn):
            able = [(e.dataset, e.model, e.method.name) for e in self.experiments if e.analysis]
            if self.focused() is None:
                raise ValueError(f"focus: fig2 to fig5 need one of the experiments with an analysis: {able}")
            for source in (source for figure in drawn for source in figure.reads.values()):
                if isinstance(source, OfFocus) and not self._measures(source.analysis):
                    raise ValueError(
                        f"focus: a figure shows {source.analysis}, which the experiment's analysis does not name; add "
                        f"{source.analysis}: {{}}"
                    )
                if isinstance(source, OfFocus) and not self._measures_shown(source):
                    raise ValueError(
                        f"analysis.{source.analysis}.runs: a figure shows the first run of the focus; name it too"
                    )
        if any(figure.needs(PathEvents) for figure in drawn) and self.path_experiment() is None:
            raise ValueError("figures: path shows the path of dessilbi, and no experiment has that method")
        if any(figure.needs(EntropyWays) for figure in drawn) and not any(e.psp_entropy for e in self.experiments):
            raise ValueError("figures: fig7 shows what PSP-entropy in training does, and no experiment has psp_entropy")
        if any(figure.needs(Transfers) for figure in drawn) and not any(e.transfer for e in self.experiments):
            raise ValueError("figures: fig6 shows transfers, and no experiment has one; add transfer: { to: DATASET }")

    def runs_of_net(self, experiment: Experiment) -> tuple[int, ...]:
        """The runs of all experiments of one dataset and model, which share their dense nets and what is kept."""
        of_net = [e.seeds for e in self.experiments if (e.dataset, e.model) == (experiment.dataset, experiment.model)]
        runs = {seed for each in of_net for seed in chosen(each, self.seeds)}
        return tuple(seed for seed in self.seeds if seed in runs)

    def _measures(self, analysis: str) -> bool:
        """Whether the experiment of the focus makes an analysis."""
        experiment = self.focused()
        return experiment is not None and getattr(experiment.analysis, analysis) is not None

    def _measures_shown(self, source: OfFocus) -> bool:
        """Whether the analysis is made in the run that the figure shows, if it shows one: the first."""
        experiment = self.focused()
        assert experiment is not None  # what `_measures` says first
        runs = getattr(getattr(experiment.analysis, source.analysis), MADE_OF, "all")
        seeds = chosen(experiment.seeds, self.seeds)
        return source.runs == "all" or runs == "all" or seeds[0] in chosen(runs, seeds)

    def focused(self) -> Experiment | None:
        """The first analysed experiment of the focus; None: there is none."""
        if self.focus is None:
            return None
        return next((e for e in self.experiments if e.analysis and self.focus.is_of(e)), None)

    def path_experiment(self) -> Experiment | None:
        """The experiment whose path the figure of that name shows: the first of DessiLBI."""
        return next((e for e in self.experiments if METHODS[e.method.name].kind == "path"), None)


def _path(given: str) -> str:
    """A path that a command line, a log and Snakemake can take."""
    if not given.strip():
        raise ValueError("an empty path given; name a folder")
    if any(not character.isprintable() for character in given):
        raise ValueError(f"{given!r} given; its control characters cannot stand in a command: rename the folder")
    if given.startswith("-"):
        raise ValueError(f"{given!r} given, which a command takes for an option; write ./{given}")
    return given


def _folder(given: str) -> str:
    """The folder of all results, without what does not change it."""
    folder = os.path.normpath(_path(given))
    if set(folder) & set("{}"):
        raise ValueError(f"{given!r} given; braces are wildcards to Snakemake: rename the folder")
    if folder in (os.curdir, os.sep, os.sep * 2):
        raise ValueError(f"{given!r} given; name a folder of its own, such as results")
    return folder


class DataLocation(Settings):
    """Where raw datasets lie."""

    root: Annotated[str, AfterValidator(_path)] | None = Field(
        None, description="a torchvision root; null: SHARPMINIMA_DATA, else data/downloads"
    )


class Config(Settings):
    """``config.yaml``: which study, and where and how it runs."""

    study: str = Field("demo", description="a name in workflow/studies, or the path of a study file")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(
        1, gt=0, le=MOST_THREADS, description="CPU threads of one training or analysis; part of the result"
    )
    compaction: bool = Field(True, description="train without the dead units of a mask; exact up to rounding")
    replica_strategy: Literal["auto", "loop", "batched"] = Field(
        "auto",
        description="replicas of a retraining: loop, one after the other; batched, as one model with a replica axis; "
        "auto: batched on CUDA, loop on CPU",
    )
    precision: Precision = Field(
        "float32",
        description="of training, where an experiment has none of its own; tf32 (CUDA alone) and bfloat16 are faster "
        "and coarser, and their results are not comparable with those of float32",
    )
    data: DataLocation = DataLocation()
    results: Annotated[str, AfterValidator(_folder)] = "results"


def study_name(config: Config) -> str:
    """The study's name in paths: a study file's stem."""
    return Path(config.study).stem
