"""Learn, freeze, retrain: the whole way, with real trainings of a small task on real Ray."""

from __future__ import annotations

import pytest

from aquasurf_ray.activations import fingerprint, parse
from aquasurf_ray.activations.learned import frozen
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import evaluate
from aquasurf_ray.store import Store

pytestmark = pytest.mark.usefixtures("ray_here")

FUNCTION = "mul(x,sigmoid(add(mul(learn(1),x),learn_channel(0))))"


@pytest.mark.slow
def test_what_a_run_learned_is_frozen_and_trained_as_a_function_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/runs.db"
    small = {"store": url, "workers": 1, "cpus_per_worker": 0.4}
    evaluate([FUNCTION], "friedman", seeds=1, name="learning", **small)
    with Store.open(url) as store:
        (learned,) = [store.learned(r.evaluation.id) for r in store.snapshot(store.run("learning").id).evaluations]
        assert {values.parameter for values in learned} == {"a", "b"}
        assert all(values.mean != values.initial for values in learned)
        layer = learned[0].layer
    capsys.readouterr()
    use = ["use", FUNCTION, "--learned", "learning", "--freeze", layer, "--form", "expression", "--store", url]
    assert main(use) == 0
    constant = capsys.readouterr().out.strip()
    values = {each.parameter: each.mean for each in learned if each.layer == layer}
    assert constant == str(frozen(parse(FUNCTION), values))
    assert parse(constant).parameters == ()
    assert fingerprint(constant) not in (fingerprint(FUNCTION), fingerprint("swish(x)"))
    evaluate([constant], "friedman", seeds=1, name="retrained", **small)
    with Store.open(url) as store:
        (request,) = store.snapshot(store.run("retrained").id).evaluations
        assert (request.function, request.evaluation.status) == (constant, "done")
        assert store.learned(request.evaluation.id) == ()
