"""Roles of a network: how a factory says them, and where each role's activation sits."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from aquasurf_ray.activations import activation_of
from aquasurf_ray.tasks import ModelNetwork, Recipe, Splits, Task, TaskError, network_from
from aquasurf_ray.tasks.roles import roles_of

Make = Callable[[], nn.Module]


def two_layers(activation: Make, *, late: Make, width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 5), late(), nn.Linear(5, 3))


def named_layers(*, early: Make, late: Make) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), early(), nn.Linear(5, 5), late(), nn.Linear(5, 3))


class Own(nn.Module):
    """A model that calls one of its activations itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gelu, self.second = nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4)
        self.block = Calling()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.second(self.gelu(self.first(x))))


class Calling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(x))


def data() -> Splits:
    examples = TensorDataset(torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)
    return Splits(examples, examples, examples)


def task_of(network: Callable[..., nn.Module]) -> Task:
    return Task("rows", network, data, Recipe(epochs=1, batch_size=20))


def plain(activation: Make) -> nn.Module:
    return two_layers(activation, late=activation)


def test_keyword_only_parameters_without_a_default_are_roles() -> None:
    assert roles_of(two_layers) == ("activation", "late")
    assert roles_of(named_layers) == ("early", "late")
    assert roles_of(plain) == roles_of(lambda activation, *, width=3: nn.Identity()) == ()
    assert roles_of(lambda *, activation: nn.Identity()) == ()


def test_each_role_computes_its_own_function() -> None:
    x = torch.randn(6, 4)
    network = task_of(named_layers).new_network(activation_of("early=sin(x);late=swish(x)"))
    first, second, last = network[0], network[2], network[4]  # type: ignore[index]
    hidden = second(torch.sin(first(x)))
    torch.testing.assert_close(network(x), last(hidden * torch.sigmoid(hidden)), rtol=0, atol=1e-6)


def test_a_plain_function_serves_every_role() -> None:
    torch.manual_seed(0)
    network = task_of(two_layers).new_network(lambda: activation_of("sin(x)"))
    torch.manual_seed(0)
    expected = plain(lambda: activation_of("sin(x)"))
    x = torch.randn(6, 4)
    assert torch.equal(network(x), expected(x))


@pytest.mark.parametrize(
    ("network", "function", "message"),
    [
        (plain, "early=x;late=sin(x)", "early=x;late=sin(x): the network has no roles; give one function"),
        (named_layers, "early=x;lat=sin(x)", "unknown role 'lat'; the network has the roles early, late"),
        (two_layers, "late=x;other=sin(x)", "unknown role 'other'; the network has the roles activation, late"),
    ],
)
def test_functions_for_other_roles_are_refused_in_one_line(network: Make, function: str, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        task_of(network).new_network(activation_of(function))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_role_is_named() -> None:
    def three(*, early: Make, middle: Make, late: Make) -> nn.Module:
        return nn.Sequential(early(), middle(), late())

    with pytest.raises(TaskError, match="no function for role 'middle'"):
        task_of(three).new_network(activation_of("early=x;late=sin(x)"))


def test_a_role_without_an_activation_is_refused_by_its_name() -> None:
    def forgets(*, early: Make, late: Make) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), early())

    with pytest.raises(TaskError, match="makes no activation of role 'late'"):
        _ = task_of(forgets).digest


def test_roles_are_part_of_the_identity_and_plain_tasks_have_no_entry() -> None:
    def exchanged(*, early: Make, late: Make) -> nn.Module:
        return named_layers(early=late, late=early)

    assert len({task_of(network).digest for network in (plain, named_layers, exchanged)}) == 3
    assert task_of(named_layers).places == {"early": ["1"], "late": ["3"]}
    assert "roles" not in task_of(plain).spec()["network"]


class TestNetworkFrom:
    def network(self) -> ModelNetwork:
        return network_from(Own, {"early": "gelu", "late": "block.*"}, example=(4,))

    def test_each_role_has_its_places_also_those_that_the_code_calls(self) -> None:
        network = self.network()
        assert network.roles == ("early", "late")
        assert network.replacement.replaced == ("gelu", "block.called_relu")
        made = task_of(network).new_network(activation_of("early=sin(x);late=cos(x)"))
        x = torch.randn(6, 4)
        hidden = made.second(torch.sin(made.first(x)))  # type: ignore[operator]
        torch.testing.assert_close(made(x), made.block.last(torch.cos(hidden)), rtol=0, atol=1e-6)  # type: ignore[operator, union-attr]

    def test_calls_are_found_on_the_tasks_data_and_cross_processes(self) -> None:
        task = task_of(network_from(Own, {"early": "gelu", "late": "block.*"}))
        assert task.places == {"early": ["gelu"], "late": ["block.called_relu"]}
        assert pickle.loads(pickle.dumps(task)).digest == task.digest

    def test_one_factory_serves_all_roles(self) -> None:
        made = self.network()(nn.Tanh)
        assert isinstance(made.gelu, nn.Tanh)
        assert isinstance(made.block.called_relu, nn.Tanh)

    @pytest.mark.parametrize(
        ("only", "message"),
        [
            (
                {"early": "gelu", "late": "*"},
                "'gelu' is in the roles early and late; make the patterns of only=",
            ),
            ({"early": "gelu", "late": "nothing*"}, "only= matches nothing with nothing*"),
            ({"early": "gelu"}, "only= has 1 roles"),
            ({"early one": "gelu", "late": "block.*"}, "role must be a name of letters, digits and _, got 'early one'"),
        ],
    )
    def test_patterns_that_do_not_fit_are_refused(self, only: dict[str, str], message: str) -> None:
        with pytest.raises(TaskError) as caught:
            _ = network_from(Own, only, example=(4,)).replacement  # type: ignore[arg-type]
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
