"""A password comes from the environment or a file, and is shown by nothing. A whole run: tests/faults."""

from __future__ import annotations

import logging
import os
import socket

import pytest
import ray

from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.cluster import connection as cluster
from aquasurf_ray.driver.cluster.connection import AUTHENTICATION, SECRETS, connected
from aquasurf_ray.store import Store, StoreError, read_only_query

SECRET = "sEcrEt-0f-Ada"


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """The URL, with a password, of a server that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql+psycopg://ada:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/runs"


COMMANDS = (
    ["resume", "one"],
    ["status"],
    ["top", "one"],
    ["query", "SELECT 1"],
    ["roles"],
    ["doctor"],
    ["export", "one", "--format", "csv", "-o", "x.csv"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_no_command_shows_the_password_of_a_store_that_it_cannot_reach(nobody, command, monkeypatch, capsys, caplog):
    monkeypatch.setenv("AQUASURF_STORE", nobody)
    monkeypatch.setattr("aquasurf_ray.driver.examine.doctor._ray", lambda config, here: iter(()))
    assert main(command) in (1, 2)
    shown = capsys.readouterr()
    assert "does not answer" in shown.out + shown.err
    assert SECRET not in shown.out + shown.err + caplog.text


@pytest.mark.parametrize("form", ["{}?password={}", "{}?sslpassword={}&host=x"])
def test_passwords_among_the_options_of_a_url_are_hidden_too(form, capsys):
    url = form.format("postgresql+psycopg://ada@127.0.0.1:1/runs", SECRET)
    for look in (Store.open, lambda url: read_only_query(url, "SELECT 1")):
        with pytest.raises(StoreError) as refused:
            look(url)
        assert SECRET not in str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__


def test_a_store_to_merge_is_shown_without_its_password(nobody, capsys):
    assert main(["merge", nobody]) == 2
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["status", "--store", "postgresql+psycopg://ada:{}@db/runs"], True),
        (["status", "--store=postgresql://ada:{}@db/runs"], True),
        (["status", "--store", "postgresql://ada@db/runs?password={}"], True),
        (["merge", "postgres://ada:{}@db/runs"], True),
        (["status", "--store", "postgresql+psycopg://ada@db:5432/runs?passfile=/home/ada/pass"], False),
        (["status", "--store", "sqlite:///a:b@c.db"], False),
        (["query", "SELECT ':@'"], False),
    ],
)
def test_a_password_on_the_command_line_is_warned_of(words, warned, capsys, monkeypatch):
    monkeypatch.setattr("aquasurf_ray.cli.main.app", lambda *_, **__: 0)
    assert main([word.format(SECRET) for word in words]) == 0
    told = capsys.readouterr().err
    assert told.startswith("aquasurf: a password on the command line is visible") == warned
    assert SECRET not in told


def test_a_password_file_serves_in_the_place_of_a_password(tmp_path, monkeypatch, postgres_url):
    """libpq reads PGPASSFILE; the URL and the environment hold no password then."""
    (tmp_path / "pass").write_text(f"*:*:*:*:{SECRET}\n")
    (tmp_path / "pass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pass"))
    Store.open(postgres_url).close()
    assert main(["status", "--store", postgres_url]) == 0


def test_rays_processes_inherit_nothing_that_opens_the_database(monkeypatch):
    """Neither they nor the workers that they start; the driver has it all back afterwards."""
    for name in SECRETS:
        monkeypatch.setenv(name, SECRET)
    seen = {}
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: seen.update(os.environ))
    monkeypatch.setattr(ray, "shutdown", lambda **_: None)
    with connected(None):
        assert all(os.environ[name] == SECRET for name in SECRETS)
    assert seen
    assert SECRET not in seen.values()


@pytest.mark.parametrize(
    ("address", "mode", "told"),
    [
        ("10.0.0.7:6379", "disabled", True),
        ("10.0.0.7:6379", None, True),
        ("ray://head:10001", None, True),
        ("10.0.0.7:6379", "token", False),
        ("127.0.0.1:6379", "disabled", False),
        ("[::1]:6379", None, False),
    ],
)
def test_a_cluster_that_requires_no_token_is_reported(address, mode, told, monkeypatch, caplog):
    """Without a token shown, Ray lets this driver in only where the cluster asks for none."""
    monkeypatch.delenv(AUTHENTICATION, raising=False)
    if mode:
        monkeypatch.setenv(AUTHENTICATION, mode)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda **_: None)
    monkeypatch.setattr(cluster, "_check_listening", lambda address: None)
    monkeypatch.setattr(cluster, "_check_mode", lambda address: None)  # this process uses a token
    with caplog.at_level(logging.WARNING), connected(address):
        pass
    assert ("requires no token" in caplog.text) == told
    assert (f"{AUTHENTICATION}=token" in caplog.text) == told
