"""The recomputed and the compiled form beside the eager one, and the choice among the three."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aquasurf_ray.activations import (
    Activation,
    CompiledActivation,
    RecomputedActivation,
    all_operators,
    fast_factory,
    form_factory,
    parse,
    register_unary,
    unregister,
)
from aquasurf_ray.activations.forms import choice as fast
from aquasurf_ray.activations.forms import kernels
from aquasurf_ray.activations.forms.agreement import disagreement, points
from aquasurf_ray.activations.forms.form_costs import FormCosts, path_for, write
from aquasurf_ray.activations.forms.recomputed import PIECE
from aquasurf_ray.activations.forms.stopwatch import kept_bytes

CPU = torch.device("cpu")
SIGMOID_ELU = "mul(sigmoid(x),elu(x))"
FOUR_NODES = "prod_n(sigmoid(x),negative(x),hard_sigmoid(x))"
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 3.7e4, -3.7e4, 1e30, -1e30, torch.inf, -torch.inf, torch.nan]

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler on this machine"
)


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_unavailable", [])
    monkeypatch.setattr(kernels, "_logged", [])


@pytest.fixture(scope="module")
def kernel_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this file's kernels are compiled, once for all its tests."""
    folder = tmp_path_factory.mktemp("kernels")
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    else:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    x = 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    x.view(-1)[: len(SPECIAL)] = torch.tensor(SPECIAL, dtype=torch.float64)
    return x.to(dtype)


def there_and_back(form: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = form(x)
    gradient = torch.empty_like(y).copy_(torch.linspace(-2, 2, y.numel()).reshape(y.shape))
    return y.detach(), torch.autograd.grad(y, x, gradient)[0]


def assert_same_bits(form: nn.Module, eager: nn.Module, x: Tensor) -> None:
    for got, expected in zip(there_and_back(form, x), there_and_back(eager, x), strict=True):
        assert got.stride() == expected.stride()
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


# --- recomputed -----------------------------------------------------------------------------------------------------


def test_what_a_function_gives_back_may_be_changed_in_place() -> None:
    for name in ("identity(x)", "relu(x)"):
        x = torch.randn(4, 3, requires_grad=True)
        y = RecomputedActivation(name)(x)
        y += 1.0
        y.sum().backward()
        assert torch.equal(y.detach(), Activation(name)(x.detach()) + 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_recomputed_operators_have_the_bits_of_eager_ones(dtype: torch.dtype) -> None:
    for entry in all_operators():
        arguments = {"unary": "tanh(x)", "binary": "x,cosh(x)", "nary": "x,sigmoid(x),negative(x)"}[entry.kind]
        for text in (f"{entry.name}({arguments})", f"square({entry.name}({arguments}))"):
            assert_same_bits(RecomputedActivation(text), Activation(text), numbers(4, 16, dtype=dtype))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("n", [2 * PIECE + 7, 3 * PIECE, 4 * PIECE, 6 * PIECE + 64])
def test_pieces_have_the_bits_of_the_whole(n: int, n_threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        assert_same_bits(RecomputedActivation(FOUR_NODES), Activation(FOUR_NODES), numbers(n))
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_pieces_keep_the_memory_format() -> None:
    x = numbers(8, 16, 32, 64).contiguous(memory_format=torch.channels_last)
    for view in (x, x[:, :, ::2], x.permute(1, 0, 3, 2)):
        assert_same_bits(RecomputedActivation(SIGMOID_ELU), Activation(SIGMOID_ELU), view)
    expanded = torch.ones(()).expand(x.shape)
    leaf = x.requires_grad_()
    ours, theirs = (torch.autograd.grad(form(leaf), leaf, expanded)[0] for form in forms(SIGMOID_ELU)[:2])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def forms(text: str) -> tuple[Activation, RecomputedActivation, CompiledActivation]:
    return Activation(text), RecomputedActivation(text), CompiledActivation(text)


@pytest.mark.usefixtures("one_thread")
def test_pieces_never_hold_a_whole_intermediate_tensor() -> None:
    sizes: list[int] = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if func in (torch.ops.aten.sigmoid.default, torch.ops.aten.mul.Tensor, torch.ops.aten.elu.default):
                sizes.append(result.numel())
            return result

    x = torch.randn(4 * PIECE, requires_grad=True)
    with Recorder():
        RecomputedActivation(SIGMOID_ELU)(x).sum().backward()
    assert set(sizes) == {PIECE}


def test_an_operator_that_looks_around_gets_the_whole_tensor() -> None:
    register_unary("centred_here", lambda x: x - x.mean())
    try:
        x = torch.randn(2 * PIECE)
        assert_same_bits(*reversed(forms("square(centred_here(x))")[:2]), x)
    finally:
        unregister("centred_here")


def test_recomputed_keeps_its_input_alone() -> None:
    x = torch.randn(64, 64, requires_grad=True)
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        RecomputedActivation(FOUR_NODES)(x).sum()
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]
    assert kept_bytes(lambda: Activation(FOUR_NODES)(x)) >= 4 * x.nbytes


def test_kept_bytes_counts_storages_once_and_leaves_parameters_out() -> None:
    weight, x = torch.randn(8, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    assert kept_bytes(lambda: (x @ weight).square(), [weight]) == 2 * x.nbytes  # x, and the product
    assert kept_bytes(lambda: (x @ weight).square()) == 2 * x.nbytes + weight.nbytes
    assert kept_bytes(lambda: x * x.view(-1).view(4, 8)) == x.nbytes


def test_second_derivatives_are_those_of_eager() -> None:
    x = torch.linspace(-2, 2, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(RecomputedActivation(SIGMOID_ELU), (x,))
    network = nn.Sequential(nn.Linear(3, 4), RecomputedActivation("tanh(square(x))"), nn.Linear(4, 1)).double()
    other = copy.deepcopy(network)
    other[1] = Activation("tanh(square(x))")
    inputs = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    penalties = []
    for model in (network, other):
        (slope,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
        slope.square().sum().backward()
        penalties.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*penalties, rtol=1e-12, atol=1e-12)


def test_the_backward_pass_computes_under_the_autocast_of_the_forward_pass() -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    def watched(x: Tensor) -> Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return x * 2

    register_unary("watched_here", watched)
    try:
        x = torch.randn(8, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.float16):
            y = RecomputedActivation("square(watched_here(x))")(x)
        y.sum().backward()
        assert seen == [(True, torch.float16)] * 2
        seen.clear()
        y = RecomputedActivation("square(watched_here(x))")(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y.sum().backward()
        assert [enabled for enabled, _ in seen] == [False, False]
    finally:
        unregister("watched_here")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_recomputed_trains_under_autocast_as_eager_does(dtype: torch.dtype) -> None:
    gradients = []
    for form in forms(SIGMOID_ELU)[:2]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(8, 8), form, nn.Linear(8, 2))
        with torch.autocast("cpu", dtype=dtype):
            loss = network(torch.randn(4, 8)).float().sum()
        loss.backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_an_input_that_is_changed_in_between_is_an_error_as_in_eager() -> None:
    x = torch.randn(8, requires_grad=True)
    doubled = 2 * x
    y = RecomputedActivation(SIGMOID_ELU)(doubled)
    doubled.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_forms_are_copied_and_pickled_as_text() -> None:
    for form in forms(SIGMOID_ELU):
        for other in (copy.deepcopy(form), pickle.loads(pickle.dumps(form))):
            assert type(other) is type(form)
            assert other.name == SIGMOID_ELU
            assert_same_bits(other, Activation(SIGMOID_ELU), torch.randn(10))
        assert b"torch._C" not in pickle.dumps(form)
        assert not form.state_dict()
    factory = pickle.loads(pickle.dumps(form_factory(parse(SIGMOID_ELU), "compiled")))
    assert repr(factory()) == f"CompiledActivation({SIGMOID_ELU})"
    with pytest.raises(ValueError, match="one of eager, recomputed, compiled, got 'quick'"):
        form_factory("relu(x)", "quick")


@pytest.mark.slow
def test_a_network_that_is_compiled_as_a_whole_contains_the_eager_form() -> None:
    torch.compiler.reset()
    network = nn.Sequential(RecomputedActivation(SIGMOID_ELU), CompiledActivation(FOUR_NODES))
    whole = torch.compile(network, fullgraph=True, backend="eager")
    x = torch.randn(4, 64)
    torch.testing.assert_close(whole(x), network[1](network[0](x)), rtol=0, atol=0)


# --- compiled -------------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.usefixtures("kernel_folder", "one_thread")
@pytest.mark.slow
def test_compiled_is_eager_within_tolerance_for_all_shapes() -> None:
    eager, _, compiled = forms(SIGMOID_ELU)
    kinds = [numbers(128), numbers(3, 5, 64), numbers(2, 4, 8, 16).to(memory_format=torch.channels_last)]
    for x in kinds:
        assert compiled.kernels_for(x) is not None
        for got, expected in zip(there_and_back(compiled, x), there_and_back(eager, x), strict=True):
            assert got.stride() == expected.stride()
            finite = ~x.isnan()
            torch.testing.assert_close(got[finite], expected[finite], rtol=1e-5, atol=1e-6, equal_nan=True)
            assert got[~finite].isnan().all()
    assert len(compiled._kernels) == 1, "one compilation serves all shapes"
    assert disagreement(compiled, eager, device=CPU, dtype=torch.float32) is None
    _keeps_its_input_alone(compiled)
    _falls_back_on_tensors_without_kernels(compiled)
    assert torch.equal(compiled(kinds[0]).nan_to_num(), compiled(kinds[0].requires_grad_()).nan_to_num())


def _keeps_its_input_alone(compiled: CompiledActivation) -> None:
    x = torch.randn(64, 64, requires_grad=True)
    assert compiled.kernels_for(x) is not None
    assert kept_bytes(lambda: compiled(x)) == x.nbytes
    assert kept_bytes(lambda: Activation(compiled.expression)(x)) == 3 * x.nbytes


def _falls_back_on_tensors_without_kernels(compiled: CompiledActivation) -> None:
    for x in (torch.randn(7, 9), torch.randn(64), torch.randn(0, 64), torch.randn(64, 64)[:, ::2]):
        assert compiled.kernels_for(x) is None
        assert_same_bits(compiled, Activation(compiled.expression), x)


@needs_compiler
@pytest.mark.usefixtures("kernel_folder", "one_thread")
@pytest.mark.slow
def test_compiled_kernels_are_of_the_autocast_of_their_forward_pass() -> None:
    compiled = CompiledActivation("mul(x,add(x,x))")
    x = torch.randn(4, 64, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compiled(x.bfloat16()).dtype == torch.bfloat16
        y = compiled(x.bfloat16())
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, 4 * x, rtol=0.02, atol=0.02)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(curvature, torch.full_like(x, 4.0), rtol=0.02, atol=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert disagreement(compiled, Activation(compiled.name), device=CPU, dtype=torch.bfloat16) is None
    assert len(compiled._kernels) == 1


def test_the_identity_is_not_compiled_and_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    compiled = CompiledActivation("identity(identity(x))")
    x = torch.randn(4, 64, requires_grad=True)
    assert_same_bits(compiled, Activation("x"), x)
    assert not said_of_compiling(caplog)


def test_an_operator_that_cannot_be_traced_is_computed_without_kernels(caplog: pytest.LogCaptureFixture) -> None:
    register_unary("branching_here", lambda x: x.exp() if x.sum() > 0 else x.square())
    try:
        x = torch.ones(4, 64)
        assert_same_bits(CompiledActivation("abs(branching_here(x))"), Activation("abs(branching_here(x))"), x)
    finally:
        unregister("branching_here")
    assert len(said_of_compiling(caplog)) == 1


def said_of_compiling(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this project has said: the compiler's own log is long."""
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("aquasurf_ray")]
    assert all(line.startswith("activation functions are not compiled here") for line in lines)
    return lines


WITHOUT_COMPILER = f"""
import logging, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from aquasurf_ray.activations import CompiledActivation, Activation
x = torch.randn(4, 64, requires_grad=True)
for text in ({SIGMOID_ELU!r}, {FOUR_NODES!r}, "square(tanh(x))"):
    y = CompiledActivation(text)(x)
    assert torch.equal(y, Activation(text)(x))
    torch.autograd.grad(y.sum(), x)
"""


@pytest.mark.slow
def test_without_a_compiler_one_line_is_logged_and_functions_are_recomputed(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "CXX": str(tmp_path / "no-compiler"), "AQUASURF_CACHE": str(tmp_path)}
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"} | nothing
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("activation functions are not compiled here") == 1


# --- agreement ------------------------------------------------------------------------------------------------------


class Altered(nn.Module):
    """The eager form with something done to its values or its gradient."""

    def __init__(self, values: object = None, gradient: object = None) -> None:
        super().__init__()
        self.eager, self.values, self.gradient = Activation(SIGMOID_ELU), values, gradient

    def forward(self, x: Tensor) -> Tensor:
        if self.gradient is not None:
            x = x.clone()
            x.register_hook(self.gradient)
        y = self.eager(x)
        return y if self.values is None else self.values(y)


@pytest.mark.parametrize(
    ("altered", "expected"),
    [
        (Altered(values=lambda y: y + 1e-3), "values differ at -12: 0.000993"),
        (Altered(values=lambda y: y * (1 + 1e-4)), "values differ"),
        (Altered(values=torch.nan_to_num), "values differ at inf"),
        (Altered(values=lambda y: torch.where(y.isnan(), 0, y)), "values differ at nan"),
        (Altered(values=lambda y: torch.where(y > 1e20, torch.nan, y)), "values differ at 1.07159e+20: nan"),
        (Altered(values=lambda y: y.double()), "values are torch.float64"),
        (Altered(gradient=lambda g: 1.001 * g), "gradients differ"),
        (Altered(gradient=lambda g: torch.where(g == 0, torch.nan, g)), "gradients differ"),
        (Altered(values=lambda y: y * (1 + 1e-7)), None),
        (Altered(), None),
    ],
)
def test_what_differs_is_found(altered: Altered, expected: str | None) -> None:
    found = disagreement(altered, Activation(SIGMOID_ELU), device=CPU, dtype=torch.float32)
    assert (found is None) == (expected is None)
    assert expected is None or (found is not None and found.startswith(expected))


def test_a_form_that_is_more_accurate_than_eager_agrees() -> None:
    class Widened(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Activation("sub(exp(x),exp(sin_here(x)))")(x.float()).to(x.dtype)

    register_unary("sin_here", torch.sin)
    try:
        eager = Activation("sub(exp(x),exp(sin_here(x)))")
        assert disagreement(Widened(), eager, device=CPU, dtype=torch.bfloat16) is None
        x = points(CPU, torch.bfloat16)
        difference = (Widened()(x).double() - eager(x).double()).abs()
        assert difference[difference.isfinite()].max() > 1, "the case is one that a plain tolerance would refuse"
    finally:
        unregister("sin_here")


# --- the choice -----------------------------------------------------------------------------------------------------

COSTS = FormCosts(
    n_elements=4096, eager=1e-3, swish=1e-4, recomputed=1.04e-3, compiled=None, refused={}, eager_keeps=3.0
)


@pytest.fixture
def never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("measured")

    for name in ("_quick_seconds", "_measure", "_try_compiled"):
        monkeypatch.setattr(fast, name, fail)


def chosen(folder: Path, costs: FormCosts, *, calls: int = 1000, prefer: str = "speed") -> str:
    expression = parse(SIGMOID_ELU)
    path = path_for(expression, device=CPU, dtype=torch.float32, n_elements=4096, folder=folder)
    write(path, costs)
    return fast_factory(
        expression, device="cpu", n_elements=4096, expected_calls=calls, prefer=prefer, folder=folder
    ).name


@pytest.mark.usefixtures("never_measured")
@pytest.mark.parametrize(
    ("changes", "arguments", "name"),
    [
        ({}, {}, "recomputed"),
        ({"recomputed": 1.06e-3}, {}, "eager"),
        ({"recomputed": 1.06e-3}, {"prefer": "memory"}, "recomputed"),
        ({"recomputed": None}, {"prefer": "memory"}, "eager"),
        ({"compiled": 2e-4}, {"calls": 5_000}, "recomputed"),
        ({"compiled": 2e-4}, {"calls": 10_000}, "compiled"),
        ({"compiled": 2e-4, "recomputed": 1.5e-3}, {"calls": 10_000}, "compiled"),
        ({"compiled": 2e-3}, {"calls": 1_000_000}, "recomputed"),
        ({"refused": {"compiled": "values differ"}}, {"calls": 1_000_000}, "recomputed"),
    ],
)
def test_the_choice_follows_what_was_measured_before(
    tmp_path: Path, changes: dict[str, object], arguments: dict[str, object], name: str
) -> None:
    assert chosen(tmp_path, FormCosts(**{**vars(COSTS), **changes}), **arguments) == name


def test_compiling_is_tried_when_it_could_save_twice_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def try_compiled(expression: object, device: object, dtype: object, costs: FormCosts) -> FormCosts:
        tried.append(str(expression))
        return FormCosts(**{**vars(costs), "compiled": 2e-4})

    monkeypatch.setattr(fast, "_try_compiled", try_compiled)
    enough = int(2 * fast.COMPILE_SECONDS / (COSTS.eager - COSTS.swish)) + 1
    assert chosen(tmp_path, COSTS, calls=enough - 2) == "recomputed"
    assert not tried
    assert chosen(tmp_path, COSTS, calls=enough) == "compiled"
    assert tried == [SIGMOID_ELU]
    stored = [json.loads(file.read_text()) for file in tmp_path.rglob("*.json")]
    assert [costs["compiled"] for costs in stored] == [2e-4]


def test_a_short_training_measures_and_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_measure", None)
    monkeypatch.setattr(fast, "_try_compiled", None)
    form = fast_factory(SIGMOID_ELU, device="cpu", n_elements=98_304, expected_calls=10, folder=tmp_path)
    assert form.name == "eager"
    assert "not worth measuring" in form.note
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("one_thread")
def test_a_measurement_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = {"device": "cpu", "n_elements": 10_000, "expected_calls": 1, "prefer": "memory", "folder": tmp_path}
    first = fast_factory(FOUR_NODES, **arguments)
    assert first.name == "recomputed"
    assert isinstance(first.factory(), RecomputedActivation)
    measured = fast._measure
    monkeypatch.setattr(fast, "_measure", None)
    assert fast_factory(FOUR_NODES, **arguments).note == first.note
    monkeypatch.setattr(fast, "_measure", measured)
    (file,) = tmp_path.rglob("*.json")
    file.write_text('{"n_elements": 9984}')
    assert fast_factory(FOUR_NODES, **arguments).name == "recomputed"
    assert "damaged" in caplog.text
    assert json.loads(file.read_text())["eager_keeps"] > 3


def test_single_operators_stay_as_they_are(tmp_path: Path) -> None:
    for text in ("relu(x)", "swish(x)", "tanh(x)", "zero(x)"):
        form = fast_factory(text, device="cpu", n_elements=4096, expected_calls=10**9, prefer="memory", folder=tmp_path)
        assert form.name == "eager", form.note


def test_an_operator_that_draws_numbers_is_not_recomputed(tmp_path: Path) -> None:
    register_unary("noisy_here", lambda x: x + torch.rand_like(x))
    try:
        form = fast_factory(
            "mul(noisy_here(x),tanh(x))",
            device="cpu",
            n_elements=4096,
            expected_calls=1,
            prefer="memory",
            folder=tmp_path,
        )
    finally:
        unregister("noisy_here")
    assert form.name == "eager"
    assert "recomputed refused (values differ" in form.note


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        form = fast_factory(
            SIGMOID_ELU, device="cpu", n_elements=4096, expected_calls=1, prefer="memory", folder=tmp_path / "file"
        )
    assert form.name == "recomputed"
    assert "cannot be kept" in caplog.text


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0 and 5"):
        fast_factory("relu(x)", device="cpu", n_elements=0, expected_calls=5)
    with pytest.raises(ValueError, match="'speed' or 'memory', got 'both'"):
        fast_factory("relu(x)", device="cpu", n_elements=1, expected_calls=5, prefer="both")


CHOOSE = f"""
import json, sys, torch
torch.set_num_threads(1)
from aquasurf_ray.activations import Activation
from aquasurf_ray.activations.forms import choice as fast
fast.COMPILE_SECONDS = fast.LOAD_SECONDS = -1e9  # whatever the times are
form = fast.fast_factory({SIGMOID_ELU!r}, device="cpu", n_elements=65536, expected_calls=10**6)
x = torch.linspace(-4, 4, 4096, requires_grad=True)
module = form.factory()
module(x).sum().backward()
print(json.dumps([form.name, module.kernels_for(x.detach()) is not None, x.grad.sum().item()]))
"""


def chosen_by(n: int, cache: Path) -> list[list[object]]:
    """What `n` processes at once choose, whether they have kernels, and a sum of gradients."""
    folders = {"AQUASURF_CACHE": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    settings = {
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_VEC_ISA_OK": "0",
    }  # or it tries vectors by programs, with a limit
    command = [sys.executable, "-c", CHOOSE]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=os.environ | folders | settings, **pipes) for _ in range(n)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * n, outputs
    return [json.loads(stdout) for stdout, _ in outputs]


def compiled_files(cache: Path) -> dict[Path, int]:
    """When each library was compiled. PyTorch may miss its own table of graphs and write the same source again; the
    library has the name of its content, and is not compiled again."""
    return {file: file.stat().st_mtime_ns for file in cache.rglob("*.so")}


@needs_compiler
@pytest.mark.timeout(900)
@pytest.mark.slow
def test_processes_at_once_share_kernels_and_measurements(tmp_path: Path) -> None:
    ((name, has_kernels, total),) = chosen_by(1, tmp_path)
    assert (name, has_kernels) == ("compiled", True)
    compiled = compiled_files(tmp_path)
    assert len(compiled) >= 2, "a function and its gradient"
    assert chosen_by(2, tmp_path) == [["compiled", True, total]] * 2
    assert compiled_files(tmp_path) == compiled, "found on disk, nothing compiled again"
    assert len(list(tmp_path.rglob("*.json"))) == 1
    assert not list(tmp_path.rglob("*.part"))
