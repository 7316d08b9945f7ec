"""A real Slurm on this machine, in a folder of its own: munged, slurmctld and one slurmd for each of its two nodes.

It runs as root, with Debian's packages `slurm-wlm` and `munge`; nothing of the system's own configuration is read or
changed. Both nodes are this machine, so what a job starts "on all nodes" is started here twice. They have the
machine's own address, since Ray joins no nodes on the loopback address; Slurm's daemons and Ray's ask for keys.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODES = ("one", "two")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue", "scancel")
BEHIND_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MinJobAge=3600
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=30
InactiveLimit=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
"""


def why_not() -> str | None:
    """Why Slurm cannot be started here, or None."""
    missing = [program for program in PROGRAMS if _which(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed; on Debian: apt-get install slurm-wlm munge"
    return "starting Slurm's daemons takes root" if os.geteuid() else None


class SlurmCluster:
    """The running daemons, and the commands that speak to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        mine = Path(sys.executable).parent  # as the script asks: the environment is active where sbatch is called
        self.environment["PATH"] = f"{mine}:{os.environ.get('PATH', '')}:{BEHIND_PATH}"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: object, cwd: Path | None = None, **environment: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` tells: JobState, ExitCode, Restarts, Reason..."""
        fields = self.command("scontrol", "--oneliner", "show", "job", number).split()
        return dict(field.split("=", 1) for field in fields if "=" in field)

    def start(self) -> None:
        """Starts the daemons, and waits until both nodes are idle."""
        self._start_munge()
        ports = iter(_free_ports(1 + len(NODES)))
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(folder=self.folder, host=host, controller_port=next(ports))
        for node in NODES:
            text += f"NodeName={node} NodeHostname={host} NodeAddr={_own_address()} Port={next(ports)} CPUs=2\n"
            (self.folder / f"spool-{node}").mkdir()
        text += f"PartitionName=all Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP\n"
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()
        self._daemon("slurmctld", "-D", "-f", self.folder / "slurm.conf")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, "-f", self.folder / "slurm.conf")
        self._wait(self._idle, "the nodes do not become idle")

    def stop(self) -> None:
        """Cancels what runs, and ends the daemons by their process numbers."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.command("scancel", "--user", "root", "--full", "--signal", "KILL")
            self.command("scancel", "--user", "root")
            self._wait(lambda: not self.command("squeue", "--noheader"), "jobs do not end")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start_munge(self) -> None:
        user = pwd.getpwnam("munge")
        folder = self.folder / "munge"
        folder.mkdir(mode=0o755)
        (folder / "key").write_bytes(secrets.token_bytes(128))
        (folder / "key").chmod(0o400)
        for path in (folder, folder / "key"):
            os.chown(path, user.pw_uid, user.pw_gid)
        files = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self._daemon("munged", "--foreground", *options, user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        self._wait((folder / "socket").exists, "munged does not start")

    def _daemon(self, name: str, *arguments: object, **options: object) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            command = [str(_which(name)), *map(str, arguments)]
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, **options))  # type: ignore[call-overload]

    def _idle(self) -> bool:
        try:
            return self.command("sinfo", "--noheader", "--format", "%T %D") == f"idle {len(NODES)}"
        except AssertionError:  # the controller does not answer yet
            return False

    def _wait(self, condition: object, otherwise: str) -> None:
        end = time.monotonic() + 60
        while not condition():  # type: ignore[operator]
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            assert not dead, f"{dead[0]} ended: see {self.folder}"
            assert time.monotonic() < end, f"{otherwise}: see {self.folder}"
            time.sleep(0.2)


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A Slurm that is ended with the context."""
    cluster = SlurmCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{BEHIND_PATH}")


def _own_address() -> str:
    """The address that this machine would send from, or the loopback one without a network. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way, suppress(OSError):
        way.connect(("192.0.2.1", 9))
        return str(way.getsockname()[0])
    return "127.0.0.1"


def _free_ports(n: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports
