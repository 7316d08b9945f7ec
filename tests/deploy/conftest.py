"""Whatever is here starts real daemons and clusters, and lasts for minutes: `make test-deploy`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import slurm_cluster, why_not


@pytest.fixture(scope="session")
def slurm():
    """A Slurm with two nodes."""
    reason = why_not()
    if reason:
        pytest.skip(f"no Slurm here: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="aqslurm"))  # munged refuses folders that others may write to
    folder.chmod(0o755)
    with slurm_cluster(folder) as cluster:
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def folder(tmp_path):
    """Where a job is started: with the module of the user's own tasks."""
    shutil.copy(Path(__file__).with_name("own_tasks.py"), tmp_path)
    return tmp_path
