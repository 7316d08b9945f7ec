"""What the doctor finds, with real faults: no search could go well in these places."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import stat
import subprocess
from contextlib import closing, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import psycopg
import pynvml
import pytest
import ray

from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.examine import doctor, machine
from aquasurf_ray.driver.examine.doctor import Finding, examine_all
from aquasurf_ray.driver.examine.machine import Gpu, NodeReport, node_report
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.store import Store, StoreTooNew, examine


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return tmp_path / "here"


@pytest.fixture
def no_ray(monkeypatch):
    """Ray takes seconds to start, and is not what the test is about."""
    monkeypatch.setattr(doctor, "_ray", lambda config, here: iter([Finding("ray", "ok", "not asked")]))


def findings(task=None, **options):
    return examine_all(task, make_config({"task": task or "digits", **options}))


def said(found, level):
    return " | ".join(f"{finding.check}: {finding.says}" for finding in found if finding.level == level)


def everything(folder):
    """Files with what is in them."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_place_that_is_well_has_no_problem_and_stays_as_it_was(no_ray, here, capsys):
    assert main(["doctor", "digits", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    checks = [finding["check"] for finding in document["findings"]]
    assert {"versions", "open files", "memory", "gpus", "store", "commit", "storage", "data", "ray"} <= set(checks)
    assert everything(here) == {}, "a store that is not there is not made"
    Store.open("sqlite:///aquasurf.db").close()
    before = everything(here)
    assert main(["doctor"]) == 0
    assert ", current" in capsys.readouterr().out
    assert everything(here) == before


def not_writable(folder):
    """A folder that not even root can write to, or one that nobody but root can."""
    if os.geteuid() == 0:
        return "/proc/self"
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    return str(folder)


def test_folders_that_cannot_be_written_are_problems(no_ray, tmp_path, capsys):
    (tmp_path / "locked").mkdir()
    place = not_writable(tmp_path / "locked")
    assert main(["doctor", "--store", f"sqlite:///{place}/runs.db", "--storage", f"{place}/checkpoints"]) == 1
    shown = capsys.readouterr().out
    lines = [line.split()[0] for line in shown.splitlines() if " problem " in line]
    assert lines == ["store", "storage"], shown


def test_little_room_for_the_database_is_a_warning(no_ray, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be made here")
    try:
        warned = said(findings(store=f"sqlite:///{place}/runs.db"), "warning")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert "store: 0 MiB free on its disk" in warned


@pytest.mark.usefixtures("ray_here")
def test_a_storage_that_cannot_be_written_is_reported_once_and_keeps_no_node_from_being_asked(tmp_path):
    (tmp_path / "file").touch()
    found = findings(storage=f"{tmp_path}/file/checkpoints")
    assert [finding.check for finding in found if finding.level == "problem"] == ["storage"]
    assert {finding.level for finding in found if finding.check in ("ray", "node")} == {"ok"}


def test_a_server_that_is_not_there_is_a_problem_at_once_and_its_password_a_secret(no_ray):
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://ada:S3CR3T@127.0.0.1:{taken.getsockname()[1]}/runs"
        found = findings(store=url)
    assert "does not answer" in said(found, "problem")
    assert "S3CR3T" not in str(found)


@pytest.mark.parametrize("version", ["9999", "0001"])
def test_a_database_of_another_version_is_reported_and_left(no_ray, store_url, version):
    with Store.open(store_url) as store:
        store._write(lambda c: c.exec_driver_sql(f"UPDATE aquasurf_version SET version_num = '{version}'"))
    found = findings(store=store_url)
    if version == "9999":
        with pytest.raises(StoreTooNew) as refused:
            Store.open(store_url)
        assert said(found, "problem") == f"store: {refused.value}"
        assert "newer than this version knows; upgrade aquasurf-ray" in str(refused.value)
    else:
        assert "schema 0001, older; a search upgrades it" in said(found, "warning")
        assert "problem" not in {finding.level for finding in found}
    assert examine(store_url).version == (None if version == "9999" else "0001")


def test_a_postgres_that_may_only_be_read_is_a_problem_and_a_superuser_a_warning(no_ray, postgres_url, postgres_server):
    Store.open(postgres_url).close()
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE ROLE doctor_reads LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO doctor_reads")
    try:
        as_owner = findings(store=postgres_url)
        assert said(as_owner, "problem") == ""
        assert "superuser" in said(as_owner, "warning")
        assert "the database's clock agrees" in said(as_owner, "ok")
        as_reader = findings(store=postgres_url.replace("postgres@", "doctor_reads@"))
        assert "you may not write its rows" in said(as_reader, "problem")
    finally:
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DROP OWNED BY doctor_reads")
            connection.execute("DROP ROLE doctor_reads")


@pytest.mark.slow
def test_what_is_no_store_or_is_locked_is_reported(no_ray, here):
    (here / "text.db").write_text("no database" * 100)
    assert "not a SQLite database" in said(findings(store="sqlite:///text.db"), "problem")
    with closing(sqlite3.connect("foreign.db")) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
        foreign.commit()
    assert "another program's" in said(findings(store="sqlite:///foreign.db"), "problem")
    Store.open("sqlite:///locked.db").close()
    with closing(sqlite3.connect("locked.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "is locked by another process" in said(findings(store="sqlite:///locked.db"), "problem")


def test_data_that_are_not_there_are_a_problem_with_what_to_do(no_ray, here):
    found = findings("all-cnn-c/cifar10", data=str(here))
    assert "data:" in said(found, "problem")
    assert "cifar10" in said(found, "problem")


def test_a_cluster_that_is_not_there_is_a_problem(monkeypatch, capsys):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert main(["doctor", "--address", f"127.0.0.1:{taken.getsockname()[1]}"]) == 1
    assert "no Ray cluster answers at" in capsys.readouterr().out


def test_every_check_is_made_whatever_becomes_of_another(no_ray, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda url: 1 / 0)
    found = findings("digits")
    assert said(found, "problem") == "store: ZeroDivisionError: division by zero"
    assert "digits: 899 train" in said(found, "ok")


REPORT = NodeReport("far", {"python": "3.12.1", "torch": "1"}, 65536, 1 << 33, (), None, 8)


@pytest.mark.parametrize(
    ("changed", "level", "text"),
    [
        ({"open_files": 1024}, "warning", "ulimit -n 65536"),
        ({"shared_memory": 64 << 20}, "warning", "/dev/shm has 64 MiB; .*--shm-size=2g"),
        ({"shared_memory": None}, "warning", "no /dev/shm"),
        ({"gpu_problem": "4 GPUs with driver 470, but PyTorch 2 can use none"}, "problem", "driver 470"),
        ({"gpus": (Gpu(0, "H100", 2 << 30, 80 << 30, (7, 8)),)}, "warning", "2.0 GiB of 80.0 GiB free; .* 7, 8; end"),
        ({"gpus": (Gpu(0, "H100", 79 << 30, 80 << 30),)}, "ok", "H100, 79.0 GiB of 80.0 GiB free"),
        ({"versions": {"python": "3.10.2"}}, "problem", "Python 3.11 or newer"),
        ({"versions": {"python": "3.9"}}, "problem", "Python 3.11 or newer"),
    ],
)
def test_limits_and_gpus_of_a_machine(no_ray, monkeypatch, changed, level, text):
    monkeypatch.setattr(doctor, "node_report", lambda: replace(REPORT, **changed))

    assert re.search(text, said(findings(), level)), findings()


@pytest.mark.parametrize(
    ("changed", "level", "text"),
    [
        ({"time_ahead": -31.0}, "warning", "far's clock is 31 s behind this machine's"),
        ({"sees_mark": False}, "warning", "is not the same place on far"),
        ({"versions": {"python": "3.12.1", "torch": "2"}}, "problem", "far has torch 2, here 1"),
        ({"open_files": 100}, "warning", "far: 100 open files"),
        ({}, "ok", "far: 8 cores"),
    ],
)
def test_nodes_of_a_cluster(monkeypatch, changed, level, text):
    """What nodes would say; that Ray asks them is tried in the test of a real cluster."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(doctor, "connected", lambda address: nullcontext())
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr(doctor, "_ask_nodes", lambda mark: [replace(REPORT, **changed), "gone: it is away"])
    found = list(doctor._ray(make_config({"task": "digits", "address": "10.0.0.7:6379"}), REPORT))
    assert text in said(found, level), found
    assert "gone: it is away; install the same version there" in said(found, "problem")
    assert "the cluster requires no token" in said(found, "warning")


class TwoGpus:
    """NVIDIA's management library on a machine with three GPUs, of which the driver has lost the last."""

    NVMLError = pynvml.NVMLError
    nvmlInit = nvmlShutdown = staticmethod(lambda: None)
    nvmlDeviceGetCount = staticmethod(lambda: 3)
    nvmlDeviceGetName = staticmethod(lambda handle: "NVIDIA H100")
    nvmlSystemGetDriverVersion = staticmethod(lambda: "470.1")

    @staticmethod
    def nvmlDeviceGetHandleByIndex(index):
        if index == 2:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    @staticmethod
    def nvmlDeviceGetMemoryInfo(handle):
        return SimpleNamespace(free=(81000, 100)[handle] << 20, total=81559 << 20)

    @staticmethod
    def nvmlDeviceGetComputeRunningProcesses(handle):
        if handle == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=4711)]


def test_gpus_are_read_from_the_driver_and_a_pytorch_that_cannot_use_them_is_reported(monkeypatch):
    monkeypatch.setattr(machine, "pynvml", TwoGpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_usable", lambda: 0)
    assert "2 GPUs with driver 470.1, but PyTorch" in node_report().gpu_problem
    monkeypatch.setattr(machine, "_usable", lambda: 2)
    gpus = node_report().gpus
    assert [(gpu.index, gpu.free_bytes >> 20, gpu.processes) for gpu in gpus] == [(0, 81000, ()), (1, 100, (4711,))]
    monkeypatch.setattr(machine, "_usable", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert node_report().gpu_problem is None, "they are hidden on purpose"
