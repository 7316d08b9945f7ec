"""One configuration from flags, YAML or Python, refused by name where it is wrong."""

from __future__ import annotations

import re

import pytest

from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.settings.models import CONDITIONS, RunConditions, RunIdentity, SearchConfig, digest
from aquasurf_ray.driver.settings.places import data_folder, store_url
from aquasurf_ray.driver.settings.reading import make_config, read_config_file
from aquasurf_ray.driver.settings.surrogate_names import DEFAULT_SURROGATE, REGRESSORS

NUMBERS = [name for name, field in SearchConfig.model_fields.items() if "float" in str(field.annotation)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [float("inf"), float("nan"), "1e400"])
def test_no_setting_is_infinite(name, value):
    with pytest.raises(BadUse, match=f"^{name.replace('_', '-')} must be a finite number, got "):
        make_config({"task": "digits", name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"evaluations": 0}, "evaluations must be at least 1, got 0"),
        ({"evaluation": 5}, "unknown key 'evaluation'; did you mean 'evaluations'\\?"),
        ({"colour": 5}, "unknown key 'colour'; the keys are .*evaluations, .*workers"),
        ({"time_limit": "soon"}, "time-limit must be seconds, or a time such as 2h30m .*, got 'soon'"),
        ({"time_limit": "0"}, "time-limit must be greater than 0, got '0'"),
        ({"workers": -1}, "workers must .* got -1"),
        ({"seed": "one"}, "seed must .* got 'one'"),
        ({"features": "all"}, "features must .*'both', 'spectrum' or 'outputs'.* got 'all'"),
        ({"gpus_per_worker": -0.5}, "gpus-per-worker must be "),
        ({"surrogate": "umap"}, "surrogate must .*'aquasurf' or 'metric'.* got 'umap'"),
        ({"max_cost": 0}, "max-cost must be greater than 0, got 0"),
        ({"max_cost": float("inf")}, "max-cost must be a finite number, got inf"),
        ({"time_budget": "0"}, "time-budget must be greater than 0, got '0'"),
        ({"gpus_per_worker": 1e-9}, "gpus-per-worker must be at least 0.0001, got 1e-09"),
        ({"cpus_per_worker": 5e-324}, "cpus-per-worker must be at least 0.0001, got 5e-324"),
        ({"early_stop": "mean"}, "early-stop must be 'off', 'median' or 'curves', got 'mean'"),
        ({"early_stop": True}, "early-stop must .* got 'on'"),
        ({"gpus_per_evaluation": 0}, "gpus-per-evaluation must .* got 0"),
        ({"gpus_per_evaluation": 1.5}, "gpus-per-evaluation must .* got 1.5"),
        (
            {"gpus_per_evaluation": 4, "gpus_per_worker": 0.5},
            "gpus-per-evaluation: 4 processes need a whole GPU each: gpus-per-worker must be 1, .* got 0.5",
        ),
        ({"name": "a\nb"}, r"name must have no line breaks or other control characters, got 'a\\nb'"),
        ({"name": "\x1b[2J"}, "name must .* control characters, got"),
        ({"name": "  "}, "name must not be blank; choose a name such as digits-1, got '  '"),
        ({"gpus_per_evaluation": 2, "gpus_per_worker": 2}, "gpus-per-worker must be 1, .* got 2"),
    ],
)
def test_wrong_values_are_refused_by_name_in_one_line(values, message):
    with pytest.raises(BadUse, match=message) as refused:
        make_config({"task": "digits", **values})
    assert "\n" not in str(refused.value)


def test_a_missing_task_is_named():
    with pytest.raises(BadUse, match="'task' is missing"):
        make_config({})


def test_each_setting_is_of_the_identity_or_a_condition_and_conditions_do_not_change_the_identity():
    assert set(RunIdentity.model_fields) | CONDITIONS == set(SearchConfig.model_fields)
    assert set(RunConditions.model_fields) == CONDITIONS
    assert CONDITIONS.isdisjoint(RunIdentity.model_fields)
    plain = make_config({"task": "digits"})
    other = {"evaluations": 99, "workers": 7, "address": "auto", "store": "sqlite:///x.db", "name": "n"}
    assert digest(make_config({"task": "digits", **other}).identity()) == digest(plain.identity())
    same = {"gpus_per_evaluation": 4, "fast_activations": "off", "data": "elsewhere", "loader_workers": 3}
    assert digest(make_config({"task": "digits", **same}).identity()) == digest(plain.identity())
    changes = ({"seed": 1}, {"candidates": 7}, {"space": "four-node"}, {"fisher": "empirical"})
    later = ({"max_cost": 1.2}, {"early_stop": "median"}, {"health_gate": "off"})
    surrogates = {digest(make_config({"task": "digits", "surrogate": name}).identity()) for name in REGRESSORS}
    assert len(surrogates) == len(REGRESSORS)
    for change in (*changes, *later):
        assert digest(make_config({"task": "digits", **change}).identity()) != digest(plain.identity())


def test_a_run_of_a_version_without_a_field_is_the_same_run():
    identity = make_config({"task": "digits", "surrogate": "aquasurf"}).identity()
    assert identity.keys().isdisjoint({"max_cost", "early_stop", "health_gate", "surrogate"})
    assert digest(identity) == "63268cd060bfad51be25cc9b4ff90f96", "as the first version stored it"


def test_times_are_seconds_or_text_with_units():
    durations = ("time_budget", "time_limit", "wait_for_nodes", "lease_seconds", "checkpoint_interval")
    for text, seconds in {"2h30m": 9000.0, "90": 90.0, "1.5h": 5400.0}.items():
        config = make_config({"task": "digits", **dict.fromkeys(durations, text)})
        assert {getattr(config, name) for name in durations} == {seconds}
    assert make_config({"task": "digits", "wait_for_nodes": "0"}).wait_for_nodes == 0


def test_the_regressor_of_a_run_that_names_none_is_its_surrogates():
    for surrogate, regressor in REGRESSORS.items():
        assert make_config({"task": "digits", "surrogate": surrogate}).regressor == regressor
        assert make_config({"task": "digits", "surrogate": surrogate, "regressor": "rfr"}).regressor == "rfr"
    assert make_config({"task": "digits"}).regressor == REGRESSORS[DEFAULT_SURROGATE]


def test_the_data_folder_is_the_same_for_all_processes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_DATA", raising=False)
    assert data_folder(make_config({"task": "digits"})) is None
    monkeypatch.setenv("AQUASURF_DATA", "there")
    assert data_folder(make_config({"task": "digits"})) == str(tmp_path / "there")
    assert data_folder(make_config({"task": "digits", "data": "here"})) == str(tmp_path / "here")


def test_the_database_url_is_not_stored():
    stored = make_config({"task": "digits", "store": "postgresql+psycopg://me:secret@host/db"}).stored()
    assert "secret" not in str(stored)


def test_yaml_keys_are_the_flags(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("task: digits\ngpus-per-worker: 0.5\nevaluations: 12\nhealth-gate: off\nfast_activations: on\n")
    config = make_config(read_config_file(file))
    assert (config.gpus_per_worker, config.evaluations) == (0.5, 12)
    assert (config.health_gate, config.fast_activations) == ("off", "on"), "YAML's bare on and off"


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n- b\n", "must contain 'key: value' lines, got list"), ("a: [", "is not YAML")]
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


@pytest.mark.parametrize("given", ["0.5,1,2", ["0.5,1", "2"], [0.5, 1, 2], (0.5, 1.0, 2.0)], ids=repr)
def test_learning_rates_are_factors_in_one_text_or_several(given):
    config = make_config({"task": "digits", "learning_rates": given})
    assert config.tuned() == ("learning_rate", (0.5, 1.0, 2.0))
    assert make_config({"task": "digits", **config.stored()}).tuned() == config.tuned()


def test_another_field_takes_the_place_of_the_learning_rate():
    assert make_config({"task": "digits"}).tuned() is None
    assert make_config({"task": "digits", "tune": "weight_decay=0,1e-4"}).tuned() == ("weight_decay", (0.0, 1e-4))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"learning_rates": "0.5,x"}, "learning-rates must be numbers, such as 0.5,1,2, got"),
        ({"tune": "weight_decay"}, "tune must be FIELD=VALUES"),
        ({"tune": "weight_decay=a"}, "tune must have numbers"),
        ({"tune": "learning_rate=0.1"}, "tune must be another field"),
        ({"tune": "weight_decay=0", "learning_rates": "1"}, "tune: a run tunes one field"),
        ({"judge": "train"}, "judge must be 'test' or 'validation'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_tuned_is_refused(given, text):
    with pytest.raises(BadUse, match=re.escape(text)):
        make_config({"task": "digits", **given})
