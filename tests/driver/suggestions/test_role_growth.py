"""A search for a function per role: what it makes, that it is the same in pieces, and what the commands say of it.

Workers answer at once, without Ray, with scores that depend on the function's text alone.
"""

from __future__ import annotations

import json
import os

import pytest
from light_driver import InstantPool, without_ray
from role_task import no_roles, two_roles
from scripted_worker import score_of

from aquasurf_ray.activations import Expression, RoleFunctions, fingerprint, function_of, outputs, parse_function
from aquasurf_ray.activations.roles import parts_of
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import propose, resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.suggestions import growth
from aquasurf_ray.driver.suggestions.growth import PERIOD
from aquasurf_ray.driver.verbs.transfer import transfer
from aquasurf_ray.store import Store


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setattr(growth, "FEWEST_CHILDREN", 60)
    without_ray(InstantPool, monkeypatch.setattr)


def searched(name="one", task=two_roles, **options):
    chosen = {"candidates": 40, "evaluations": 14, "growth": 2, "workers": 1}
    return search(task(), name=name, progress=False, **{**chosen, **options})


def record_of(name="one"):
    """The names of the candidates in their order, those that the run made by their origin, and what was suggested."""
    with Store.open(os.environ["AQUASURF_STORE"], create=False) as store:
        run = store.run(name)
        candidates = store.candidates(run.id)
        names = {function.id: function.name for function in candidates}
        made = {
            f.name: family.ancestors[0]
            for f in candidates
            for family in store.families(f.id)
            if family.ancestors and family.run == name  # another run may have made the same function from others
        }
        requests = store.snapshot(run.id).evaluations
        generation = store.growth(run.id).generation
    grown = {
        name: (own.generation, own.change, [names[p] for p in own.parents])
        for name, own in made.items()
        if own.generation
    }
    suggested = [(r.function, r.suggestion.predicted_score) for r in requests if r.suggestion]
    return list(names.values()), grown, suggested, generation


def functions_of(name):
    return [function_of(parse_function(name), role) for role in ("early", "late")]


def test_roles_are_changed_and_joined_from_the_best_functions_of_a_space(here):
    searched(space="three-node")
    names, grown, suggested, generation = record_of()
    assert generation == (14 - 1) // PERIOD == 3
    assert not any(parts_of(name) for name in names[: 8 + 40])
    assert list(grown) == names[8 + 40 :]
    assert len(grown) == 3 * 2 * PERIOD
    assert len({fingerprint(name) for name in names}) == len(names)
    known = {parse_function(name) for name in names[: 8 + 40]}
    for name, (_, change, parents) in grown.items():
        assert isinstance(parse_function(name), RoleFunctions)
        both = functions_of(name)
        assert set(both) <= known  # the space's own sample and the baselines: its product is never enumerated
        if change == "change role":
            assert sum(a != b for a, b in zip(both, functions_of(parents[0]), strict=True)) == 1
        else:
            assert change == "join roles"
            assert all(
                f in choice for f, choice in zip(both, zip(*map(functions_of, parents), strict=True), strict=True)
            )
    assert {name for name, _ in suggested} & set(grown)


def test_the_open_space_makes_new_functions_for_roles_too(here):
    searched(space="open", learned_parameters="off")
    names, grown, *_ = record_of()
    first = {parse_function(name) for name in names[: 8 + 40]}
    of_roles = [functions_of(name) for name in grown if parts_of(name)]
    assert of_roles
    assert any(function not in first for both in of_roles for function in both)
    assert any(isinstance(parse_function(name), Expression) for name in grown)


@pytest.mark.parametrize("options", [{"space": "three-node"}, {"space": "open", "standardize": "on"}])
@pytest.mark.slow
def test_one_seed_gives_one_sequence_also_in_pieces(here, options):
    searched("whole", **options)
    searched("parts", evaluations=3, **options)
    for budget in (4, 5, 9, 14):
        resume("parts", task=two_roles(), evaluations=budget)
    assert record_of("parts") == record_of("whole")
    searched("other", seed=1, **options)
    assert record_of("other")[1] != record_of("whole")[1]


def test_a_task_without_roles_has_no_functions_per_role(here):
    searched("none", no_roles, space="three-node")
    names, grown, _, generation = record_of("none")
    assert (grown, generation) == ({}, 0)
    assert not any(map(parts_of, names))


def test_the_commands_know_roles(here, capsys, tmp_path):
    searched(space="three-node")
    _, grown, suggested, _ = record_of()
    function = next(name for name, _ in suggested if name in grown)
    propose("one", ["late=sin(x);early=relu"])
    resume("one", task=two_roles(), evaluations=16)

    def said(*arguments):
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    board = {row["function"]: row for row in json.loads(said("top", "one", "-n", "100", "--json"))}
    assert board[function]["val_accuracy"] == pytest.approx(score_of(function))
    assert board["early=relu(x);late=sin(x)"]["val_accuracy"] == pytest.approx(score_of("early=relu(x);late=sin(x)"))
    shown = json.loads(said("show", "late = sin; early=relu(x)", "--json"))
    assert shown["words"] == "early: relu of x; late: sine of x"
    assert [each["run"] for each in shown["evaluations"]] == ["one"]
    assert "change role" in said("show", function) or "join roles" in said("show", function)
    near = json.loads(said("find", "one", "--near", "relu(x)", "--trained", "-n", "100", "--json"))
    both = next(each for each in near if each["function"] == "early=relu(x);late=sin(x)")
    # Half of its outputs are relu's own.
    difference = outputs("sin(x)").astype(float) - outputs("relu(x)")
    assert both["distance"] == pytest.approx((difference**2).mean() ** 0.5 / 2**0.5)
    said("report", "one", "-o", "one.html")
    page = (tmp_path / "one.html").read_text()
    assert "early=relu(x);late=sin(x)" in page


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("early=relu;lat=sin", "unknown role 'lat'; the network has the roles early, late"),
        ("early=relu;late=sin;more=x", "unknown role 'more'; the network has the roles early, late"),
        ("early=relu;late=si", "role 'late': unknown name 'si'"),
    ],
)
def test_requests_for_other_roles_are_refused_in_one_line(here, capsys, function, message):
    searched(evaluations=1, space="three-node")
    assert main(["enqueue", "one", function]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_transfer_to_a_task_without_these_roles_is_refused(here):
    searched(space="three-node")
    propose("one", ["early=relu;late=sin"])
    resume("one", task=two_roles(), evaluations=16)
    with pytest.raises(BadUse, match=r"=.*;late=.*: the network has no roles; give one function"):
        transfer("one", no_roles(), top=20, progress=False)
    result = transfer("one", two_roles(), top=20, seeds=1, progress=False)
    assert result.evaluations == 16 + 8  # all functions, and the baselines


def test_the_commands_of_tasks_list_roles(capsys):
    assert main(["task", "show", "role_task:two_roles"]) == 0
    assert "roles       early: 1; late: 3\n" in capsys.readouterr().out
    assert main(["task", "check", "role_task:two_roles", "--device", "cpu"]) == 0
    assert "2 activation modules, of the roles early (1), late (1), with relu(x)" in capsys.readouterr().out
    assert main(["task", "show", "role_task:no_roles"]) == 0
    assert "\nroles" not in capsys.readouterr().out


def test_a_spectrum_says_the_role_of_each_layer(capsys):
    assert main(["spectrum", "early=relu;late=tanh", "--task", "role_task:two_roles", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [(each["layer"], each["role"]) for each in layers] == [("0", "early"), ("2", "late"), ("4", "")]
    assert main(["spectrum", "relu", "--task", "role_task:two_roles"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["layer", "role", "weights"]
    assert main(["spectrum", "relu", "--task", "role_task:no_roles"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["layer", "weights"]


def test_the_map_surrogate_is_refused(here):
    with pytest.raises(BadUse, match=r"surrogate: 'aquasurf' cannot search a function per role \(early, late\)"):
        searched(surrogate="aquasurf")


def test_a_role_is_exported(capsys, tmp_path):
    both = "early=relu(x);late=mul(x,sin(x))"
    assert main(["use", both, "--role", "late", "--form", "expression"]) == 0
    assert capsys.readouterr().out == "mul(x,sin(x))\n"
    assert main(["use", both, "-o", str(tmp_path / "functions.py")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["functions_early.py", "functions_late.py"]
    assert main(["use", "mul(x,sin(x))"]) == 0
    assert (tmp_path / "functions_late.py").read_text() == capsys.readouterr().out.split("written\n")[-1]
    assert main(["use", both, "--form", "onnx", "-o", str(tmp_path / "both.onnx")]) == 0
    assert (tmp_path / "both_late.onnx").stat().st_size > 0
    assert main(["use", both, "--role", "middle"]) == 2
    assert "unknown role 'middle'" in capsys.readouterr().err
