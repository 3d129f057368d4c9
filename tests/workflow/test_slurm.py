"""Studies through a real Slurm, in which jobs, a node and Snakemake itself die. Minutes; `pytest -m slurm`."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from sharpminima.base.files import sha256_file

from .cases import PATIENCE_S, ROOT, checkout, command, environment, snakemake, wait_until
from .slurm import NODES, PARTITIONS, QUICK, Cluster, Job, Step, Stops, Watch, edit_profile, queue, unable

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

SLOTS = sum(NODES[node] for node in PARTITIONS["main"])
COMPONENTS = {"dense-{dataset}-{model}": 3, "retrain-{dataset}-{model}-{method}-{seed}": 3}
STUDY = os.environ.get("SLURM_STUDY", "tests/studies/cluster.yaml")
"""What is run and broken; `make test-slurm-demo` takes the default study."""
NAME = Path(STUDY).stem
# Who dies how, of the runs of LOBSTER: each training of the study `cluster` has but two.
VICTIMS = {"stalled": "/lenet5/", "cancelled": "/lenet5/", "cut_off": "/lenet300/"}
SILENT_S = 15 * 60  # without a word from Snakemake: it hangs. How long a study may take depends on the machine
RESULTS = {".csv", ".bz2", ".json", ".safetensors", ".pdf", ".svg"}
# As the README says it.
CANCEL_LEFT = """squeue --me --noheader --format "%i %j" | awk '$2 ~ /^sharpminima/ {print $1}' | xargs -r scancel"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running Slurm; in CI there must be one."""
    reason = unable()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


class Controller:
    """Snakemake on the login node; killed at the end of its ``with``, if it is still there."""

    def __init__(
        self, folder: Path, log: str, *arguments: str, study: str, profile: str = "slurm", stops: Stops | None = None
    ) -> None:
        self._log = folder / log
        line = command("--workflow-profile", f"profiles/{profile}", *arguments, study=study)
        variables = environment() | (stops.environment if stops is not None else {})
        with self._log.open("w") as file:
            self.process = subprocess.Popen(line, cwd=folder, env=variables, stdout=file, stderr=file)

    def __enter__(self) -> "Controller":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def printed(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def wait(self, ended: Callable[[], bool] = lambda: False) -> int | None:
        """Its exit status, or None if something else has ended the wait before.

        Args:
            ended: asked twice a second.

        Raises:
            AssertionError: it hangs.
        """
        said, since = "", time.monotonic()
        while not ended():
            if self.process.poll() is not None:
                return self.process.returncode
            if (printed := self.printed) != said:
                said, since = printed, time.monotonic()
            assert time.monotonic() < since + SILENT_S, f"silent for {SILENT_S} s: {said[-4000:]}\n{queue()}"
            time.sleep(0.5)
        return None


# A study, disturbed ------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """What happened to the study."""

    folder: Path
    watch: Watch
    stops: Stops
    broken: bool = False  # whether all three have met their end
    moved: bool = False  # whether the job of the node that was set down runs on another
    went_on: bool = False  # whether all three have begun again
    stalled: Step | None = None  # until its time limit
    stalled_job: Job | None = None  # as it was submitted
    cancelled: Step | None = None  # by scancel
    cut_off: Step | None = None  # by its node
    interrupted: list[Step] = field(default_factory=list)  # in training when the controller was killed
    status: int | None = None  # of the second controller
    printed: str = ""  # by it
    jobs: dict[int, Job] = field(default_factory=dict)  # all of Slurm's in the end

    @property
    def victims(self) -> list[Step]:
        """Those so far that died alone."""
        return [step for step in (self.stalled, self.cancelled, self.cut_off) if step is not None]


@pytest.fixture(scope="module")
def story(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The study through sbatch; one job cancelled, one stalled, a node set down, and the controller killed."""
    folder = checkout(tmp_path_factory.mktemp("disturbed"))
    edit_profile(folder, "slurm", **QUICK, **{"group-components": COMPONENTS})
    stops = Stops(folder / "stops.txt")
    stops.want("prune")
    with Watch(cluster) as watch:
        story = Story(folder, watch, stops)
        with Controller(folder, "first.log", study=STUDY, stops=stops) as first:
            status = first.wait(lambda: _disturb(story, cluster))
            assert status is None, f"never came to it: {story}\nwent on: {set(watch.resumed)}\n{first.printed[-4000:]}"
        subprocess.run(["bash", "-c", CANCEL_LEFT], check=True)
        snakemake(folder, "--unlock", study=STUDY)
        with Controller(folder, "second.log", study=STUDY) as second:
            story.status, story.printed = second.wait(), second.printed
        story.jobs = {job.id: job for job in cluster.jobs()}
    return story


def _disturb(story: Story, cluster: Cluster) -> bool:
    """Do what is due; whether the time has come to kill the controller."""
    stopped = [step for step in cluster.steps() if step.stopped]
    if not story.broken:
        for step in stopped:
            _cast(story, step)
        if story.stalled is not None and story.cancelled is not None and story.cut_off is not None:
            (story.stalled_job,) = (job for job in cluster.jobs() if job.id == story.stalled.job)
            cluster.limit(story.stalled.job, 1)
            cluster.cancel(story.cancelled.job)
            job = story.cut_off.job
            cluster.set_node(story.cut_off.node, "down")
            wait_until(lambda: not cluster.keepers(job))
            cluster.begin(job)
            story.broken = True
    elif not story.went_on:
        assert story.cut_off is not None
        for step in stopped:
            if step.log not in {victim.log for victim in story.victims}:
                step.go_on()
        if not story.moved and _runs(cluster, story.cut_off):
            # Not before: a node that gets a job again may still hold it for its own, and refuses all jobs from then on
            # ("Duplicate jobid").
            cluster.set_node(story.cut_off.node, "resume")
            story.moved = True
        if story.moved and {victim.log for victim in story.victims} <= story.watch.resumed:
            # Those who went on stand still until here: no retraining that is to be interrupted has begun.
            story.stops.want("retrain /lenet5/")
            story.went_on = True
    else:
        for step in stopped:
            if step.name == "prune":
                step.go_on()
            else:
                story.interrupted.append(step)
    return bool(story.interrupted)


def _runs(cluster: Cluster, step: Step) -> bool:
    """Whether the step's job has begun again."""
    return any(job.id == step.job and job.state == "RUNNING" for job in cluster.jobs())


def _cast(story: Story, step: Step) -> None:
    """Give a stopped step a role that is still free, or let it go on."""
    if step.log in {victim.log for victim in story.victims}:
        return
    for role, model in VICTIMS.items():
        if getattr(story, role) is None and model in str(step.log):
            setattr(story, role, step)
            return
    step.go_on()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the study from two cores: this one, where `make` has trained here, else a copy."""
    # What DVC has brought has no logs, and may be another CPU's, to other bits.
    trained_here = (ROOT / f"results/{NAME}/logs/prune").is_dir()
    if trained_here and "Nothing to be done" in snakemake(ROOT, "--dry-run", study=STUDY):
        return ROOT
    folder = checkout(tmp_path_factory.mktemp("undisturbed"))
    snakemake(folder, "--cores", "2", study=STUDY)
    return folder


def results(folder: Path) -> dict[str, str]:
    """SHA-256 of all that the study makes, without logs, what holds dates or seconds, and what DVC alone needs."""
    parts = ("data", "runs", "analysis", "tables", "figures")
    files = [path for part in parts for path in (folder / "results" / NAME / part).rglob("*")]
    files.append(folder / f"paper/build/{NAME}.pdf")
    return {
        str(path.relative_to(folder)): sha256_file(path)
        for path in files
        if path.suffix in RESULTS and path.name not in ("record.json", "usage.json", "measures.csv")
    }


def test_the_disturbed_study_ends_with_the_files_of_an_undisturbed_one(story: Story, undisturbed: Path) -> None:
    assert story.status == 0, story.printed[-4000:]
    expected = results(undisturbed)
    assert {f"results/{NAME}/tables/results.csv", f"results/{NAME}/tables/numbers.json"} < set(expected)
    assert results(story.folder) == expected


def test_each_running_step_has_a_slot_of_its_own_and_no_step_has_none(story: Story) -> None:
    assert story.watch.most == SLOTS
    assert story.watch.shared == []
    assert story.watch.devices == {(node, "0") for node in PARTITIONS["main"]}


def test_a_cancelled_job_is_submitted_again_and_its_training_goes_on(story: Story) -> None:
    assert story.cancelled is not None
    assert story.jobs[story.cancelled.job].state == "CANCELLED"
    assert story.cancelled.log in story.watch.resumed


def test_a_job_past_its_time_limit_gets_more_time_and_memory_and_its_training_goes_on(story: Story) -> None:
    assert story.stalled is not None
    assert story.stalled_job is not None
    assert story.jobs[story.stalled.job].state == "TIMEOUT"
    assert story.stalled.log in story.watch.resumed
    again = story.jobs[story.watch.attempts[story.stalled.log][1]]
    assert again.limit_min == 2 * story.stalled_job.limit_min
    assert again.memory_mb == pytest.approx(2 * story.stalled_job.memory_mb, rel=0.01)


def test_a_dead_node_costs_what_its_jobs_did_since_their_last_resume_file(story: Story) -> None:
    assert story.cut_off is not None
    assert story.jobs[story.cut_off.job].restarts == 1
    assert story.cut_off.log in story.watch.resumed


def test_a_killed_controller_leaves_resume_files(story: Story) -> None:
    assert {step.log for step in story.interrupted} <= story.watch.resumed
    assert {story.jobs[step.job].state for step in story.interrupted} == {"CANCELLED"}


# Smaller studies ----------------------------------------------------------------------------------------------------


def test_a_job_that_always_fails_stops_its_branch_only_and_its_log_is_named_last(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = checkout(tmp_path)
    edit_profile(folder, "slurm", **QUICK, retries=1)
    with Controller(folder, "failing.log", study="tests/studies/diverges.yaml") as controller:
        assert controller.wait() == 1
    root = folder / "results/diverges/runs/digits"
    made = {str(path.parent.relative_to(root)) for path in root.rglob("checkpoint.safetensors")}
    assert made == {
        "lenet300/dense/seed-0",
        "lenet300/lobster/level-50/gradual/seed-0",
        "lenet300/lobster/level-50/rewind/seed-0",
        "mlp3x400/dense/seed-0",
    }
    log = "results/diverges/logs/prune/digits/mlp3x400/lobster/seed-0.log"
    failed = [job.state for job in cluster.jobs() if "prune_digits_mlp3x400" in job.comment]
    assert failed == ["FAILED"] * 2
    last = controller.printed.splitlines()[-8:]
    assert any(line.startswith(f"  {log}: error: the loss is nan") for line in last), last


def test_two_jobs_on_one_node_see_different_devices(cluster: Cluster, tmp_path: Path) -> None:
    """Each waits until both have been there."""
    script = "echo $CUDA_VISIBLE_DEVICES > $SLURM_JOB_ID; until [ $(ls | wc -l) = 2 ]; do sleep 0.1; done"
    line = ["sbatch", "--partition=pair", "--gpus=fake:1", "--mem=100", "--time=10", "--output=/dev/null", "--wait"]
    jobs = [subprocess.Popen([*line, "--wrap", script], cwd=tmp_path) for _ in range(2)]
    assert [job.wait(PATIENCE_S) for job in jobs] == [0, 0]
    assert sorted(path.read_text().strip() for path in tmp_path.iterdir()) == ["0", "1"]


def _stopped(cluster: Cluster) -> Step:
    """The only step, once it has stopped."""
    wait_until(lambda: any(step.stopped for step in cluster.steps()))
    (step,) = cluster.steps()
    return step


def test_the_generic_profile_submits_asks_and_begins_again(cluster: Cluster, tmp_path: Path) -> None:
    """A training is cancelled; then its controller is killed, and what it has left is ended before the next begins."""
    folder = checkout(tmp_path)
    edit_profile(folder, "generic", **{"seconds-between-status-checks": 1, "latency-wait": 5})
    target = "results/demo/runs/digits/lenet5/dense/seed-0/checkpoint.safetensors"
    stops = Stops(tmp_path / "stops.txt")
    stops.want("dense")
    with Controller(folder, "first.log", target, study="demo", profile="generic", stops=stops):
        step = _stopped(cluster)
        cluster.cancel(step.job)
        wait_until(lambda: not psutil.pid_exists(step.pid))
        again = _stopped(cluster)
    cluster.cancel(again.job)
    snakemake(folder, "--unlock", study="demo")
    with Controller(folder, "second.log", target, study="demo", profile="generic") as second:
        assert second.wait() == 0, second.printed
    assert "goes on from resume" in step.printed
    states = [job.state for job in cluster.jobs() if job.id >= step.job]
    assert sorted(states) == ["CANCELLED", "CANCELLED", "COMPLETED"]
