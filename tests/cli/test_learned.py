"""What was learned is shown, and taken home: as initial values, or as constants of a function of its own."""

from __future__ import annotations

import json

import pytest
from role_task import BEST, LEARNED_BY_BOTH, fill_role_run
from synthetic_run import LEARNED

from aquasurf_ray.activations import fingerprint, parse
from aquasurf_ray.cli.main import main
from aquasurf_ray.store import EvaluationResult, FunctionRow, LearnedValues, NewRun, Store, this_process

FUNCTION = "add(mul(learn(1),tanh(x)),mul(learn_channel(0.25),x))"


@pytest.fixture
def url(tmp_path):
    found = f"sqlite:///{tmp_path}/runs.db"
    with Store.open(found) as store:
        metric = {"objective": {"metric": "accuracy", "higher_is_better": True}}
        task = store.add_task("digits", "1", "d", metric)
        rows = [FunctionRow(fingerprint(name), name, parse(name).n_operators) for name in (FUNCTION, "relu(x)")]
        ids = store.add_functions(rows)
        new = NewRun("learning", "evaluate", task, {"functions": [FUNCTION]}, "d", 0, 2, None, "0.1.0")
        lease = store.acquire_lease(store.create_run(new, ids).id, this_process())
        for number, learned in zip(ids, (LEARNED, ()), strict=True):
            claim = store.claim(lease, number, 0, origin="proposal")
            store.start(lease, claim.evaluation_id, "w", None, ())
            store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.9, learned=learned))
        store.release_lease(lease, "finished")
    return found


def printed(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_show_says_what_each_layer_learned(url, capsys):
    text = printed(capsys, "show", FUNCTION, "--store", url)
    assert "a of layer '1': 1 to 1.5; course 1.1, 1.3, 1.4, 1.5" in text
    assert "b of layer '3': 0.25 to 0.125 (spread 0.03 over 16 channels); course 0.2, 0.175, 0.15, 0.125" in text
    document = json.loads(printed(capsys, "show", FUNCTION, "--store", url, "--json"))
    assert [row["mean"] for row in document["evaluations"][0]["learned"]] == [1.5, 0.5, 0.125]
    assert "learned" not in printed(capsys, "show", "relu(x)", "--store", url)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "add(mul(learn(1,a),tanh(x)),mul(learn_channel(0.125,b),x))"),
        (["--freeze", "mean"], "add(mul(1,tanh(x)),mul(0.125,x))"),
        (["--freeze", "3"], "add(mul(0.5,tanh(x)),mul(0.125,x))"),
    ],
)
def test_a_function_is_given_with_what_was_learned(url, capsys, options, expected):
    use = ["use", "add(mul(x,learn_channel(0.25)),mul(tanh(x),learn(1)))", "--learned", "learning", "--store", url]
    assert printed(capsys, *use, "--form", "expression", *options) == f"{expected}\n"
    assert "def forward" in printed(capsys, *use, *options)


@pytest.fixture
def roles_url(tmp_path):
    found = f"sqlite:///{tmp_path}/roles.db"
    with Store.open(found) as store:
        fill_role_run(store)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([LEARNED_BY_BOTH], "early=mul(learn(3,a),x);late=mul(learn_channel(0.25,a),sin(x))"),
        ([LEARNED_BY_BOTH, "--role", "late"], "mul(learn_channel(0.25,a),sin(x))"),
        ([LEARNED_BY_BOTH, "--freeze", "mean"], "early=mul(3,x);late=mul(0.25,sin(x))"),
        ([LEARNED_BY_BOTH, "--role", "early", "--freeze", "1"], "mul(3,x)"),
        ([BEST], "early=tanh(x);late=mul(learn(0.5,a),swish(x))"),
    ],
)
def test_each_role_is_given_with_what_its_own_layers_learned(roles_url, capsys, options, expected):
    use = ["use", *options, "--learned", "of-roles", "--store", roles_url]
    assert printed(capsys, *use, "--form", "expression") == f"{expected}\n"


def test_the_files_of_the_roles_have_what_was_learned(roles_url, capsys, tmp_path):
    printed(capsys, "use", BEST, "--learned", "of-roles", "--store", roles_url, "-o", str(tmp_path / "f.py"))
    assert "0.5" in (tmp_path / "f_late.py").read_text()
    assert (tmp_path / "f_early.py").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            [BEST, "--role", "early"],
            "role 'early' of early=tanh(x);late=mul(learn(1),swish(x)) has no learned parameters",
        ),
        ([BEST, "--role", "middle"], "unknown role 'middle'; the network of run 'of-roles' has the roles early, late"),
        ([BEST, "--freeze", "3"], "freeze: '3' is a layer of one role; name the role with --role"),
        ([LEARNED_BY_BOTH, "--role", "late", "--freeze", "1"], "freeze: '1' must be mean or one of the layers 3"),
        (["early=relu;late=x"], "run 'of-roles' has no training of early=relu;late=x that learned parameters"),
    ],
)
def test_what_cannot_be_given_of_roles_is_said(roles_url, capsys, options, said):
    assert main(["use", *options, "--learned", "of-roles", "--store", roles_url]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_network_without_roles_has_none_to_take_values_of(url, capsys):
    assert main(["use", FUNCTION, "--learned", "learning", "--role", "late", "--store", url]) == 2
    assert "unknown role 'late'; the network of run 'learning' has no roles" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["use", FUNCTION, "--freeze", "mean"], "freeze: 'mean' needs --learned RUN"),
        (
            ["use", FUNCTION, "--learned", "learning", "--freeze", "9"],
            "freeze: '9' must be mean or one of the layers 1, 3",
        ),
        (
            ["use", "relu(x)", "--learned", "learning"],
            "run 'learning' has no training of relu(x) that learned parameters",
        ),
        (["use", "swish(x)", "--learned", "learning"], "run 'learning' has no training of swish(x)"),
        (["use", FUNCTION, "--learned", "nothing"], "no run is named 'nothing'"),
    ],
)
def test_what_cannot_be_given_is_said(url, capsys, options, said):
    assert main([*options, "--store", url]) in (1, 2)
    assert said in capsys.readouterr().err


OTHERS = {  # spellings of the same function, with what their own parameters are called
    "add(mul(x,learn_channel(0.25)),mul(tanh(x),learn(1)))": ("b", "a"),
    "add(mul(learn(1,gain),tanh(x)),mul(learn_channel(0.25,slope),x))": ("gain", "slope"),
}


@pytest.mark.parametrize("spelling", OTHERS)
@pytest.mark.parametrize("known_here", [True, False])
def test_what_was_learned_in_a_merged_store_keeps_its_meaning(url, tmp_path, capsys, spelling, known_here):
    """Each store names the parameters by the spelling of the function that it saw first."""
    other = f"sqlite:///{tmp_path}/other.db"
    of_layer, of_channels = OTHERS[spelling]
    with Store.open(other) as store:
        metric = {"objective": {"metric": "accuracy", "higher_is_better": True}}
        task = store.add_task("digits", "1", "d", metric)
        (number,) = store.add_functions([FunctionRow(fingerprint(spelling), spelling, 5)])
        new = NewRun("elsewhere", "evaluate", task, {"functions": [spelling]}, "e", 1, 1, None, "0.1.0")
        lease = store.acquire_lease(store.create_run(new, [number]).id, this_process())
        claim = store.claim(lease, number, 1, origin="proposal")
        store.start(lease, claim.evaluation_id, "w", None, ())
        learned = (
            LearnedValues("1", of_layer, 1.0, None, 3.0, 0.0, (3.0,)),
            LearnedValues("1", of_channels, 0.25, 16, 0.75, 0.1, (0.75,)),
        )
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.8, learned=learned))
        store.release_lease(lease, "finished")
    if not known_here:
        url = f"sqlite:///{tmp_path}/empty.db"
        Store.open(url).close()
    printed(capsys, "merge", other, "--store", url)
    use = ["use", FUNCTION, "--learned", "elsewhere", "--freeze", "mean", "--form", "expression", "--store", url]
    frozen = printed(capsys, *use).strip()
    # tanh's factor is the layer's number, and that of x the mean of the channels, in whatever order they stand.
    assert fingerprint(frozen) == fingerprint("add(mul(3,tanh(x)),mul(0.75,x))")
