# Paths and settings of the study: everything comes from sharpminima.study.jobs, so that the rules only name it.
import json
import os
import re
import sys
from pathlib import Path
from shlex import quote

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from sharpminima.base.errors import ConfigError, stated_in
from sharpminima.base.files import COMPRESSED
from sharpminima.base.yaml_input import read_yaml
from sharpminima.catalogue.analyses import ANALYSES, of_dense
from sharpminima.catalogue.figures import FIGURES
from sharpminima.catalogue.models import LABEL
from sharpminima.catalogue.plugins import PATTERNS
from sharpminima.report.claims import read_ledger
from sharpminima.study import jobs
from sharpminima.study.costs import Costs
from sharpminima.study.jobs import NUMBERS_CODE, PAPER_CODE, PUBLISHED_CODE, RANKING_CODE, Layout
from sharpminima.study.owner import note_owner
from sharpminima.study.paths import PAPER_SOURCES, PUBLISHED_ERRORS
from sharpminima.study.plugged import as_options, used_by, used_by_figure, used_by_numbers
from sharpminima.study.read import load_config, study_file
from sharpminima.study.runs import experiment_key
from sharpminima.study.schema import MADE_OF
from sharpminima.tracking import adopt, data_to_make_first, dvc_at_work, hold, set_aside, unnoted

try:
    for file in workflow.configfiles:
        read_yaml(file)  # Snakemake's own reader takes what ours refuses: 010 for 8, a key that stands twice
    LAYOUT = Layout(*load_config(config))
    if workflow.is_main_process:
        read_ledger(LAYOUT.study.ledger)  # its faults would else be found after all training
except ConfigError as error:
    # One readable list of faults instead of a traceback through Snakemake.
    sys.exit(f"error: {error}")

CONFIG, STUDY = LAYOUT.config, LAYOUT.study
COSTS = Costs(LAYOUT)


onerror:
    # Failures stand where they happened, far above the end of a long run.
    logs = {Path(name) for job in workflow.scheduler.failed for name in job.log if Path(name).exists()}
    if logs:
        print("These jobs failed in all attempts:", file=sys.stderr)
    for path in sorted(logs):
        print(f"  {path}: {stated_in(path.read_text())}", file=sys.stderr)


onsuccess:
    # Whoever asks for a part knows where it is.
    dag = workflow.dag_settings
    whole = not any((dag.targets, dag.allowed_rules, dag.until, dag.omit_from))
    if whole and not workflow.output_settings.quiet:
        logger.info(outcome())


if workflow.is_main_process and workflow.non_local_exec:
    # Jobs inherit them: a compute node may have no home that one can write to.
    for variable in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        os.environ.setdefault(variable, str(Path(".snakemake/cache", variable.lower()).absolute()))

if workflow.is_main_process:
    # Files that DVC has brought come with the record of what made them.
    adopt(LAYOUT)
    for message in filter(None, (dvc_at_work(), unnoted(LAYOUT))):
        print(f"warning: {message}", file=sys.stderr)


onstart:
    planned = {job.rule.name for job in workflow.dag.needrun_jobs()}
    if message := dvc_at_work() or data_to_make_first(LAYOUT, planned) or hold(LAYOUT.root):
        raise WorkflowError(message)
    note_owner(study_file(CONFIG.study), Path(LAYOUT.root))
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "retrain":
            set_aside(job.output)  # else it is removed before its draws can be taken over


# Without a trap the shell dies of the SIGTERM that Slurm sends to the whole job, and Slurm kills what is left of the step at
# once, before a training has written its resume file. Children do not inherit it.
shell.prefix("set -euo pipefail; trap : TERM; ")


wildcard_constraints:
    dataset=PATTERNS["dataset"],
    model=f"{PATTERNS['model']}({LABEL})?",
    method=PATTERNS["method"],
    level=r"[0-9.]+",
    strategy="[a-z-]+",
    seed=r"\d+",
    to=PATTERNS["dataset"],


def command(template):
    """Shell command of a rule: paths are quoted where those of the study need it.

    Where they do not, the text stays what it is: Snakemake makes again what another text has made.
    """
    if quote(LAYOUT.root) == LAYOUT.root:
        return template
    return re.sub(r"\{((?:input|output|log)[.\w]*)\}", r"{\1:q}", template)


def verbatim(text):
    """Params function: a text that may hold braces, which are wildcards to Snakemake elsewhere."""
    return lambda wildcards: text


def folder_of(name, above=0):
    """Params function: the folder of an output, or one above it."""
    return lambda wildcards, output: quote(str(Path(output.get(name)).parents[above]))


def log_of(job):
    """Log file of a job, beside the results."""
    return f"{LAYOUT.root}/logs/{job}.log"


def benchmark_of(job):
    """Wall time and memory of a job: a record of the run, never an input."""
    return f"{LAYOUT.root}/benchmarks/{job}.tsv"


def caption_of(figure):
    """Caption of a figure in Snakemake's report: its own, or else one that fits any."""
    own = Path(workflow.basedir, "workflow/report", f"{figure}.rst")
    return f"../report/{figure if own.is_file() else 'figure'}.rst"


def plugged(step, given=""):
    """Params function: options, and those of the plug-ins that the step's job uses."""
    return lambda wildcards: given + as_options(used_by(step, **wildcards))


def batchnorm(wildcards):
    """Params: the option of a net whose BatchNorm is not the usual one."""
    settings = LAYOUT.experiment(wildcards.dataset, wildcards.model).batchnorm
    option = "" if settings is None else f" --batchnorm {quote(settings.model_dump_json())}"
    return option + as_options(used_by("init", **wildcards))


def kept_weights(weights):
    """The option that says whose weights a step keeps.

    The default is not spelled out, as of all options that came later: what was trained before has it.
    """
    return "" if weights == "all" else f" --weights {weights}"


def dense_runtime(wildcards):
    """Params: how a dense training computes, and what it keeps where that is not everything."""
    experiment = LAYOUT.experiment(wildcards.dataset, wildcards.model)
    weights = LAYOUT.kept_weights(experiment, int(wildcards.seed))
    kept = kept_weights("all" if weights == "all" else "none")
    return RUNTIME + precision(experiment) + psp_entropy(experiment) + kept + as_options(used_by("dense", **wildcards))


def precision(experiment):
    """The option of a training's precision; the default is not spelled out."""
    chosen = LAYOUT.precision(experiment)
    return "" if chosen == "float32" else f" --precision {chosen}"


def masked_runtime(experiment):
    """How a training of a masked net computes."""
    return f"{RUNTIME}{precision(experiment)} --{'compaction' if CONFIG.compaction else 'no-compaction'}"


def psp_entropy(experiment):
    """The option of a training that minimises PSP-entropy too; the default is not spelled out."""
    settings = experiment.psp_entropy
    return "" if settings is None else f" --psp-entropy {quote(settings.model_dump_json())}"


def dense_settings(wildcards):
    """Params: the dense recipe of the experiment as JSON, and nothing else of the config."""
    return LAYOUT.experiment(wildcards.dataset, wildcards.model).dense.model_dump_json()


def replicas(wildcards):
    """Params: number of replicas of a retraining cell."""
    experiment = LAYOUT.experiment(wildcards.dataset, wildcards.model, wildcards.method)
    return LAYOUT.retraining(experiment, wildcards.strategy, int(wildcards.seed)).replicas


def prune_runtime(experiment):
    """Params function: how a method's run computes, and what it keeps where that is not everything."""
    plugins = as_options(used_by("prune", **experiment_key(experiment)))
    return lambda wildcards: (
        masked_runtime(experiment)
        + psp_entropy(experiment)
        + kept_weights(LAYOUT.kept_weights(experiment, int(wildcards.seed)))
        + plugins
    )


def retrain_runtime(wildcards):
    """Params: how a retraining computes, and what it keeps where that is not everything."""
    experiment = LAYOUT.experiment(wildcards.dataset, wildcards.model, wildcards.method)
    kept = kept_weights(LAYOUT.weights(experiment, wildcards.level, int(wildcards.seed)))
    runtime = f"{masked_runtime(experiment)} --replica-strategy {CONFIG.replica_strategy}"
    return runtime + psp_entropy(experiment) + kept + as_options(used_by("retrain", **wildcards))


def transfer_runtime(wildcards):
    """Params: how a transfer computes: as the nets were trained."""
    runtime = masked_runtime(LAYOUT.experiment(wildcards.dataset, wildcards.model))
    return runtime + as_options(used_by("transfer", **wildcards))


def chosen_analysis(wildcards):
    """The settings of one analysis."""
    return LAYOUT.analysis_settings(wildcards.dataset, wildcards.model, wildcards.method, wildcards.analysis)


def analysis_settings(wildcards):
    """Params: the settings of one analysis as JSON."""
    return chosen_analysis(wildcards).model_dump_json(exclude={MADE_OF})


def dense_net(wildcards):
    """Input: the dense net of a run, where an analysis measures it too."""
    return LAYOUT.dense(**wildcards) if of_dense(chosen_analysis(wildcards)) else []


def analyse_runtime(wildcards):
    """Params: how an analysis computes, and the dense net that not every one takes."""
    dense = dense_net(wildcards)
    return RUNTIME + (f" --dense {quote(dense)}" if dense else "") + as_options(used_by("analyse", **wildcards))


def mem_mb(step, **key):
    """Resources: memory of a step, more with each attempt."""
    return lambda wildcards, attempt: getattr(COSTS, step)(**{**key, **wildcards}).mem_mb(attempt)


def minutes(step, **key):
    """Resources: time limit of a step, more with each attempt."""
    return lambda wildcards, attempt: getattr(COSTS, step)(**{**key, **wildcards}).runtime(attempt)


def transfer_settings(wildcards):
    """Params: the settings of a transfer as JSON."""
    return LAYOUT.transfer_settings(**wildcards).model_dump_json(exclude={"sources"})


def options(name):
    """Params function: an input's files as repeated options."""
    return lambda wildcards, input: " ".join(f"--{name} {quote(path)}" for path in input.get(name, []))


def drawn(figure):
    """Params function: a figure without its extension, and the options of the plug-ins that it uses."""
    plugins = as_options(used_by_figure(STUDY, figure))
    return lambda wildcards, output: f"{quote(str(Path(output.pdf).with_suffix('')))}{plugins}"


def targets():
    """What the study ends with."""
    drawn = [path for job in LAYOUT.drawing_jobs() for path in job.outputs]
    return [*drawn, *LAYOUT.tables(), LAYOUT.metrics()]


def outcome():
    """What a finished study has come to, and where it lies."""
    verdicts = json.loads(Path(LAYOUT.metrics()).read_text())["claims"]
    counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count) or "none"
    paper = [f"  paper     {LAYOUT.paper()}"] if STUDY.paper else []
    return "\n".join(
        [
            f"Study {LAYOUT.name} is done:",
            *paper,
            f"  page      {LAYOUT.explorer()}",
            f"  figures   {LAYOUT.root}/figures/ ({', '.join(STUDY.figures) or 'none'})",
            f"  verdicts  {counted} (sharpminima claims --study {CONFIG.study})",
            f"  tables    {LAYOUT.root}/tables/",
        ]
    )


# The config for a command that looks at the whole study, without the data's folder, which differs from machine to machine.
CONFIG_TEXT = CONFIG.model_dump_json(exclude={"data"})
# Numerical results depend on both, so both are params of every numerical rule.
RUNTIME = f"--device {CONFIG.device} --threads {CONFIG.threads}"
GPU = 0 if CONFIG.device == "cpu" else 1
