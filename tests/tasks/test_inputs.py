"""Items, batches and return values of every form that PyTorch's and Hugging Face's loaders and models have."""

from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.inputs import batch_of, call_network, input_and_target, map_tensors, part_of, tensors_of
from aquasurf_ray.tasks.outputs import output_of
from aquasurf_ray.workers.spectrum import SpectrumInputError, fisher_spectrum

X, Y = torch.arange(6.0).reshape(3, 2), torch.arange(3)


class Echo(nn.Module):
    def forward(self, *args, **kwargs):
        return args, kwargs


@pytest.mark.parametrize(
    ("item", "args", "kwargs"),
    [
        ((X, Y), (X,), {}),
        ([X, Y], (X,), {}),
        (((X, X), Y), (X, X), {}),
        (([X, X], Y), (X, X), {}),
        (({"a": X, "b": X}, Y), (), {"a": X, "b": X}),
        ({"a": X, "labels": Y}, (), {"a": X}),
        (UserDict({"a": X, "label": Y}), (), {"a": X}),
        ({"a": X, "label": X, "labels": Y}, (), {"a": X, "label": X}),
    ],
    ids=["pair", "list", "tuple", "list of two", "dict and label", "dict", "mapping", "labels before label"],
)
def test_a_batch_of_any_form_is_given_to_the_network_as_its_form_says(item, args, kwargs):
    inputs, target = batch_of(item)
    assert target is Y
    given_args, given_kwargs = call_network(Echo(), inputs)
    assert all(a is b for a, b in zip(given_args, args, strict=True))
    assert given_kwargs.keys() == kwargs.keys()
    assert all(given_kwargs[key] is kwargs[key] for key in kwargs)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ((X, X, Y), r"must be \(input, target\) pairs, got 3 parts \(Tensor, Tensor, Tensor\); several inputs go into"),
        ({"a": X}, r"dictionaries with the target under 'labels', got a dict with 'a'"),
        (X, "got Tensor"),
        ("text", "got str"),
        (({"a": ["b", "c"]}, Y), "got str under 'a.0'"),
        ((X, {"y": Y}), "targets must be one tensor, got dict"),
        ((X, [Y, Y]), "targets must be one tensor, got list of Tensor"),
    ],
    ids=["three", "no target", "tensor", "text", "texts", "targets by name", "two targets"],
)
def test_other_forms_are_refused_with_what_came(item, says):
    with pytest.raises(TaskError, match=says):
        batch_of(item)


def test_an_item_need_not_be_made_of_tensors():
    assert input_and_target(("a text", 1)) == ("a text", 1)


def test_tensors_are_changed_and_cut_in_every_place():
    nested = {"a": X, "b": (X, [X])}
    doubled = map_tensors(nested, lambda t: 2 * t)
    assert [t.equal(2 * X) for t in tensors_of(doubled)] == [True] * 3
    assert [len(t) for t in tensors_of(part_of(nested, slice(1, 3), 3))] == [2, 2, 2]
    with pytest.raises(TaskError, match=r"must have the 3 examples of a batch in dimension 0, got shape \(1, 2\)"):
        part_of({"a": X, "b": X[:1]}, slice(0, 1), 3)


@dataclass
class Output:
    loss: object
    logits: torch.Tensor


@dataclass
class Hidden:
    nothing: object
    hidden: torch.Tensor


Named = namedtuple("Named", ("aux", "logits"))


@pytest.mark.parametrize(
    "returned",
    [
        Y,
        (Y, X),
        [None, Y],
        {"out": Y, "aux": X},
        {"loss": X, "logits": Y},
        Output(X, Y),
        Hidden(None, Y),
        Named(X, Y),
        ((Y, X), X),
        [{"hidden": X, "logits": Y}, X],
        {"state": (None, [Y]), "aux": X},
    ],
    ids=[
        "tensor",
        "tuple",
        "list",
        "dict",
        "logits",
        "dataclass",
        "first of a dataclass",
        "namedtuple",
        "tuple in a tuple",
        "logits within",
        "first within",
    ],
)
def test_the_output_is_logits_or_the_first_tensor(returned):
    assert output_of(returned) is Y


@pytest.mark.parametrize("returned", [None, "text", (), {"a": None}])
def test_a_network_that_returns_no_tensor_is_refused(returned):
    with pytest.raises(TaskError, match=f"dataclass with one, got {type(returned).__name__}"):
        output_of(returned)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: X.to_sparse(), "got a sparse_coo one; make it dense in collate_fn$"),
        (lambda: X.to_sparse_csr(), "got a sparse_csr one; make it dense in collate_fn$"),
        (lambda: {"a": X, "b": (X.to_sparse(),)}, "got a sparse_coo one"),
        (lambda: torch.nested.nested_tensor([X[:1], X]), "got a nested one; pad it in"),
        (
            lambda: torch.nested.nested_tensor([X[:1], X], layout=torch.jagged),
            "got a nested one; pad it in collate_fn$",
        ),
        (lambda: pack_sequence([X, X[:1]]), "got a PackedSequence; pad sequences in collate_fn, with their lengths"),
        (lambda: [pack_sequence([X[:1], X], enforce_sorted=False), X], "got a PackedSequence"),
    ],
    ids=["sparse", "sparse rows", "sparse within", "nested", "jagged", "packed", "packed among others"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:The PyTorch API of nested tensors")
def test_tensors_that_examples_cannot_be_taken_out_of_are_refused_in_a_line(make, says):
    inputs = make()
    with pytest.raises(TaskError, match=f"^inputs must be dense tensors, {says}"):
        batch_of((inputs, Y))
    with pytest.raises(TaskError, match=f"^targets must be dense tensors, {says}"):
        batch_of((X, inputs))
    with pytest.raises(SpectrumInputError, match=f"^inputs must be dense tensors, {says}"):
        fisher_spectrum(nn.Linear(2, 2), inputs)
