"""Run a real Slurm of one node on this machine, below a folder of its own.

It needs Debian's packages slurmctld, slurmd, slurm-client and munge, and root, because slurmd
starts jobs as the user who submits them. `make test-slurm` installs the packages. Nothing outside
of the folder is written, and the ports are free ones, so another Slurm of this machine is not
disturbed.

The node says that it has four cores, so that several elements run side by side on any machine.
"""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.engines.processes import find_free_port, running_process, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
_NODE_CORES = 4
_START_S, _STOP_S = 60.0, 40.0
# A job that is queued again may start after `cred_expire` seconds (120 by default), because its old
# credentials must have expired. KillWait is the time between SIGTERM and SIGKILL.
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """The commands of a running cluster."""

    def job_states(self, job_id: str) -> dict[str, str]:
        """Return array index -> state (PENDING, RUNNING, COMPLETED ...) of the job's elements."""
        shown = run_command("scontrol", "show", "job", "--oneliner", job_id)
        states = {}
        for line in shown.splitlines():
            facts = dict(word.partition("=")[::2] for word in line.split())
            states[facts.get("ArrayTaskId", "0")] = facts["JobState"]
        return states

    def wait_for_states(self, job_id: str, expected: set[str], seconds: float = 240) -> None:
        """Wait until all elements of a job are in one of the expected states."""
        wait_until(lambda: set(self.job_states(job_id).values()) <= expected, seconds)

    def requeue(self, element_id: str) -> None:
        run_command("scontrol", "requeue", element_id)

    def cancel(self, job_id: str) -> None:
        run_command("scancel", job_id)

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until none is left."""
        run_command("scancel", "--user=root")
        wait_until(lambda: not run_command("squeue", "--noheader").strip(), _STOP_S)


@contextmanager
def running_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """Start the daemons, and set the environment so that Slurm's commands use them.

    Raises:
        RuntimeError: A program is missing, or this process is not root.
    """
    check_requirements()
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=host,
            folder=folder,
            cores=_NODE_CORES,
            controller_port=find_free_port(),
            node_port=find_free_port(),
        )
    )
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)

    before = os.environ.get("SLURM_CONF")
    with ExitStack() as stack:
        _start_munge(stack, folder / "munge")
        os.environ["SLURM_CONF"] = str(configuration)
        stack.callback(_restore_variable, "SLURM_CONF", before)
        for name in ("slurmctld", "slurmd"):
            command = [name, "-D", "-f", str(configuration)]
            stack.enter_context(running_process(folder / f"{name}.log", *command))
        wait_until(lambda: "idle" in _ask("sinfo", "--noheader", "--format=%t"), _START_S)
        cluster = SlurmCluster()
        stack.callback(cluster.cancel_all)
        yield cluster


def check_requirements() -> None:
    """Raise RuntimeError with what to do if a real Slurm cannot be started here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise RuntimeError(
            f"A real Slurm needs {', '.join(missing)}, which are not installed. Run `make "
            "test-slurm` as root on Debian or Ubuntu, or install slurmctld, slurmd, slurm-client "
            "and munge."
        )
    if os.geteuid() != 0:
        raise RuntimeError("A real Slurm needs root, because slurmd starts jobs of other users.")


def run_command(*command: str) -> str:
    """Run one of Slurm's commands; return its output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _start_munge(stack: ExitStack, folder: Path) -> None:
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    command = ["munged", "--foreground", "--force", f"--log-file={folder / 'log'}", *options]
    stack.enter_context(running_process(folder / "out", *command))
    wait_until((folder / "socket").exists, _START_S)


def _restore_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _ask(*command: str) -> str:
    """Return a command's output, or nothing while the controller does not answer yet."""
    try:
        return run_command(*command)
    except RuntimeError:
        return ""
