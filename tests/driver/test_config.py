"""One configuration from flags, YAML or Python, refused by name where it is wrong."""

from __future__ import annotations

import pytest

from aquasurf_ray.driver.config import CONDITIONS, SearchConfig, digest, make_config, read_config_file, store_url
from aquasurf_ray.driver.errors import BadUse


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"evaluations": 0}, "evaluations: input should be greater than or equal to 1, got 0"),
        ({"evaluation": 5}, "unknown key 'evaluation'; there are: .*evaluations"),
        ({"workers": -1}, "workers: .* got -1"),
        ({"seed": "one"}, "seed: .* got 'one'"),
        ({"features": "all"}, "features: .*'both', 'spectrum' or 'outputs'.* got 'all'"),
        ({"gpus_per_worker": -0.5}, "gpus-per-worker: "),
    ],
)
def test_wrong_values_are_refused_by_name_in_one_line(values, message):
    with pytest.raises(BadUse, match=message) as refused:
        make_config({"task": "digits", **values})
    assert "\n" not in str(refused.value)


def test_a_missing_task_is_named():
    with pytest.raises(BadUse, match="'task' is missing"):
        make_config({})


def test_conditions_are_real_fields_and_do_not_change_the_identity():
    assert set(SearchConfig.model_fields) >= CONDITIONS
    plain = make_config({"task": "digits"})
    other = {"evaluations": 99, "workers": 7, "address": "auto", "store": "sqlite:///x.db", "name": "n"}
    assert digest(make_config({"task": "digits", **other}).identity()) == digest(plain.identity())
    for change in ({"seed": 1}, {"candidates": 7}, {"space": "four-node"}, {"fisher": "empirical"}):
        assert digest(make_config({"task": "digits", **change}).identity()) != digest(plain.identity())


def test_the_database_url_is_not_stored():
    stored = make_config({"task": "digits", "store": "postgresql+psycopg://me:secret@host/db"}).stored()
    assert "secret" not in str(stored)


def test_yaml_keys_are_the_flags(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("task: digits\ngpus-per-worker: 0.5\nevaluations: 12\n")
    config = make_config(read_config_file(file))
    assert (config.gpus_per_worker, config.evaluations) == (0.5, 12)


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n- b\n", "must hold 'key: value' lines, got list"), ("a: [", "is not YAML")]
)
def test_a_broken_config_file_is_refused(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(BadUse, match=message):
        read_config_file(file)


def test_an_absent_config_file_is_named(tmp_path):
    with pytest.raises(BadUse, match=r"absent\.yaml' cannot be read"):
        read_config_file(tmp_path / "absent.yaml")


def test_the_store_comes_from_flag_environment_or_working_folder(monkeypatch):
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    assert store_url(None) == "sqlite:///aquasurf.db"
    monkeypatch.setenv("AQUASURF_STORE", "sqlite:///elsewhere.db")
    assert store_url(None) == "sqlite:///elsewhere.db"
    assert store_url("sqlite:///given.db") == "sqlite:///given.db"
