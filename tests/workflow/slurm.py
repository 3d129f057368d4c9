"""A Slurm of the tests' own: all daemons on loopback, virtual nodes with fake GPUs, no accounting."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from sharpminima.catalogue.analyses import ANALYSES

from .cases import PATIENCE_S, wait_until

NODES = {"n1": 1, "n2": 1, "n3": 1, "n4": 1, "pair": 2}  # node -> fake GPUs
PARTITIONS = {"main": ("n1", "n2", "n3", "n4"), "pair": ("pair",)}
DEVICES = ("/dev/null", "/dev/zero")  # Slurm wants a file for each GPU; nobody opens them
ETC = Path("/etc/slurm")  # where srun looks inside jobs, which see no SLURM_CONF
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
QUICK = {
    "slurm-init-seconds-before-status-checks": 2,
    "seconds-between-status-checks": 2,
    "latency-wait": 5,
}  # a test is less patient than a cluster
STEPS = ("dense", "prune", "retrain", "transfer", *ANALYSES)  # what holds a GPU slot


def edit_profile(folder: Path, name: str, **settings: Any) -> None:
    """Change settings of a profile, as a user does; mappings are merged."""
    path = folder / f"profiles/{name}/config.yaml"
    profile = yaml.safe_load(path.read_text())
    for key, value in settings.items():
        profile[key] = {**profile[key], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(profile))


def unable() -> str | None:
    """Why no Slurm can be started here, or None."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"Slurm is not installed (no {', '.join(missing)}): apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    running = "slurmctld" in {process.name() for process in psutil.process_iter(["name"])}
    own = (ETC / "slurm.conf").exists() and not (ETC / "slurm.conf").is_symlink()  # a killed test leaves links
    if running or own:
        return f"{ETC / 'slurm.conf'} is there, or a controller runs: this machine has a Slurm of its own"
    return None


@dataclass(frozen=True)
class Job:
    """What Slurm knows about a job."""

    id: int
    state: str
    node: str
    limit_min: float
    memory_mb: float
    gpus: int
    comment: str
    restarts: int


@dataclass(frozen=True)
class Step:
    """A process of ours that holds a GPU slot."""

    pid: int
    job: int
    node: str
    device: str
    log: Path
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The command."""
        return self.arguments[0]

    def option(self, name: str) -> str:
        """The value of an option."""
        return self.arguments[self.arguments.index(name) + 1]

    @property
    def printed(self) -> str:
        """Its log, or that of its next attempt."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def stopped(self) -> bool:
        """Whether it has stopped itself (`Stops`), and stands still."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def go_on(self) -> None:
        """End its stop."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)


class Stops:
    """Which steps stop themselves at their first epoch; each process once.

    Args:
        file: holds what is wanted, for `stops/sitecustomize.py`, which the steps load.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.want()
        path = [str(Path(__file__).parent / "stops"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self.environment = {"STOPS": str(file), "PYTHONPATH": os.pathsep.join(filter(None, path))}

    def want(self, *wanted: str) -> None:
        """From now on, steps of these commands, by the log's path if a part of it follows: ``"prune /lenet5/"``."""
        new = self._file.with_suffix(".new")
        new.write_text("\n".join(wanted))
        new.replace(self._file)  # a step may be reading


class Cluster:
    """Starts and stops the daemons, and breaks things.

    Args:
        logs: folder that gets their logs in the end.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._links: list[Path] = []

    def __enter__(self) -> "Cluster":
        # Not a test's own folder: munged wants one that others may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._folder.chmod(0o755)
        for name in ("etc", "run", "log", "state", *(f"spool/{node}" for node in NODES)):
            (self._folder / name).mkdir(parents=True)
        key = self._folder / "etc/munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        (self._folder / "etc/slurm.conf").write_text(self._slurm_conf())
        (self._folder / "etc/gres.conf").write_text(self._gres_conf())
        ETC.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)  # a broken link that a killed run has left
            (ETC / name).symlink_to(self._folder / "etc" / name)
            self._links.append(ETC / name)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _call("scancel", "--user", "root", check=False)
        wait_until(lambda: not self.steps(), seconds=20, fail=False)
        # munged last: the others cannot say goodbye without it.
        for pattern in ("slurmd.*.pid", "slurmctld.pid", "munged.pid"):
            numbers = [int(path.read_text()) for path in (self._folder / "run").glob(pattern)]
            daemons = [psutil.Process(number) for number in numbers if psutil.pid_exists(number)]
            for daemon in daemons:
                daemon.terminate()
            for daemon in psutil.wait_procs(daemons, timeout=10)[1]:
                daemon.kill()
        for link in self._links:
            link.unlink()
        shutil.copytree(self._folder / "log", self._logs, dirs_exist_ok=True)
        shutil.rmtree(self._folder)

    def _start(self) -> None:
        """Start the daemons and wait for the nodes."""
        run, log = self._folder / "run", self._folder / "log"
        _call(
            "munged", f"--key-file={self._folder}/etc/munge.key", f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid", f"--log-file={log}/munged.log", f"--seed-file={run}/munged.seed",
            "--origin=127.0.0.1",
        )  # fmt: skip
        _call("slurmctld")
        for node in NODES:
            _call("slurmd", "-N", node)
        states = ("sinfo", "--noheader", "--Node", "--format=%T")
        wait_until(lambda: set(_call(*states, check=False).split()) == {"idle"})

    def _slurm_conf(self) -> str:
        host, folder = socket.gethostname().partition(".")[0], self._folder
        ports = _free_ports(len(NODES) + 1)
        lines = [
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports.pop()}",
            f"AuthInfo=socket={folder}/run/munge.sock",
            f"SlurmctldPidFile={folder}/run/slurmctld.pid",
            f"SlurmdPidFile={folder}/run/slurmd.%n.pid",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool/%n",
            f"SlurmctldLogFile={folder}/log/slurmctld.log",
            f"SlurmdLogFile={folder}/log/slurmd.%n.log",
            *_SETTINGS.split(),
        ]
        for node, gpus in NODES.items():
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports.pop()}"
                f" CPUs=8 RealMemory=64000 Gres=gpu:fake:{gpus}"
            )
        for name, nodes in PARTITIONS.items():
            default = "YES" if name == "main" else "NO"
            lines.append(f"PartitionName={name} Nodes={','.join(nodes)} Default={default} MaxTime=INFINITE State=UP")
        return "\n".join(lines) + "\n"

    def _gres_conf(self) -> str:
        lines = ["AutoDetect=off"]
        for node, gpus in NODES.items():
            lines += [f"NodeName={node} Name=gpu Type=fake File={file}" for file in DEVICES[:gpus]]
        return "\n".join(lines) + "\n"

    # What it knows ----------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs, finished ones too."""
        found = []
        for line in _call("scontrol", "--oneliner", "show", "job").splitlines():
            facts = dict(re.findall(r"(\w+)=(\S+)", line))
            if "JobId" in facts:
                hours, minutes, seconds = (int(part) for part in facts["TimeLimit"].split("-")[-1].split(":"))
                gpus = re.search(r"gres:gpu(?::\w+)?:(\d+)", facts.get("TresPerJob", ""))
                found.append(
                    Job(
                        id=int(facts["JobId"]),
                        state=facts["JobState"],
                        node=facts["NodeList"] if facts["JobState"] == "RUNNING" else "",
                        limit_min=60 * hours + minutes + seconds / 60,
                        memory_mb=float(facts["MinMemoryNode"][:-1]) * {"M": 1, "G": 1024}[facts["MinMemoryNode"][-1]],
                        gpus=int(gpus[1]) if gpus else 0,
                        comment=facts.get("Comment", ""),
                        restarts=int(facts["Restarts"]),
                    )
                )
        return found

    def steps(self) -> list[Step]:
        """The trainings and analyses that run now."""
        found = []
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                if len(command) < 3 or Path(command[1]).name != "sharpminima" or command[2] not in STEPS:
                    continue
                environment = process.environ()
                log = Path(f"/proc/{process.pid}/fd/2").readlink()
            except (psutil.Error, OSError):
                continue
            if "SLURM_JOB_ID" in environment:
                job, node = int(environment["SLURM_JOB_ID"]), environment["SLURMD_NODENAME"]
                found.append(Step(process.pid, job, node, environment["CUDA_VISIBLE_DEVICES"], log, tuple(command[2:])))
        return found

    def keepers(self, job: int) -> list[int]:
        """Slurm's own processes that keep a job."""
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"] and process.info["cmdline"][0].startswith(f"slurmstepd: [{job}.")
        ]

    # What it does -----------------------------------------------------------------------------------------------

    def cancel(self, *jobs: int) -> None:
        """scancel."""
        _call("scancel", *(str(job) for job in jobs))

    def limit(self, job: int, minutes: int) -> None:
        """Shorten a job's time limit."""
        _call("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")

    def begin(self, job: int) -> None:
        """Let a job that Slurm put back begin at once: it waits for two minutes."""
        _call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def set_node(self, node: str, state: str) -> None:
        """Set a node ``down``, or ``resume`` it."""
        _call("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test")


class Watch:
    """Looks at a cluster's processes twice a second, from a thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.most = 0  # steps at one time
        self.shared: list[tuple[Step, Step]] = []  # two at one time with the same device
        self.devices: set[tuple[str, str]] = set()  # (node, device) of all
        self.resumed: set[Path] = set()  # logs of steps that went on from a resume file
        self.attempts: dict[Path, list[int]] = {}  # log of a step -> its jobs

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def _read(self) -> None:
        """Read all logs, those of steps that were too quick to be seen a second time too."""
        for log in self.attempts.keys() - self.resumed:
            if log.exists() and "goes on from resume" in log.read_text():
                self.resumed.add(log)

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            steps = self._cluster.steps()
            holders: dict[tuple[str, str], Step] = {}
            for step in steps:
                slot = (step.node, step.device)
                if slot in holders:
                    self.shared.append((holders[slot], step))
                holders[slot] = step
                jobs = self.attempts.setdefault(step.log, [])
                if step.job not in jobs:
                    jobs.append(step.job)
            self.most = max(self.most, len(steps))
            self.devices.update(holders)
            self._read()


def queue() -> str:
    """What waits, and which nodes take no jobs, for a message."""
    return _call("squeue", check=False) + _call("sinfo", "--Node", "--long", check=False)


def _call(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


_SETTINGS = """
ClusterName=test
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=0
KillWait=10
MinJobAge=7200
SchedulerParameters=sched_min_interval=0,bf_interval=5,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
"""
