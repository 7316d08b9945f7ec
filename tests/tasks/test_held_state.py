"""State that objects hold is found wherever it is, and put back."""

from __future__ import annotations

import random
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from aquasurf_ray.tasks.held_state import HeldState, generators_in, generators_set, numbers_in

SHARED = np.random.default_rng(3)


class Holder:
    def __init__(self, held):
        self.inner = [{"held": held}]

    def __getitem__(self, index):
        return SHARED.random()


def draws_from_a_closure(generator):
    return lambda batch: generator.random()


@pytest.mark.parametrize(
    "make", [random.Random, np.random.default_rng, np.random.RandomState, lambda seed: torch.Generator()]
)
def test_generators_are_found_set_and_restored(make):
    def drawn(generator):
        return float(torch.rand(1, generator=generator) if isinstance(generator, torch.Generator) else draw(generator))

    def draw(generator):
        return generator.random_sample() if isinstance(generator, np.random.RandomState) else generator.random()

    generator = make(1)
    for owner in (Holder(generator), partial(max, key=generator), draws_from_a_closure(generator), [(generator,)]):
        assert any(held is generator for held in generators_in(owner))
    assert any(held is SHARED for held in generators_in(Holder(None))), "a global that a method names"
    upcoming = HeldState([generator])
    first = drawn(generator)
    with generators_set([generator], 5):
        set_to_five = drawn(generator)
    with generators_set([generator], 5):
        assert drawn(generator) == set_to_five != first
    upcoming.restore()
    assert drawn(generator) == first


def test_contents_and_attributes_are_put_back():
    module = nn.Module()
    module.register_buffer("filled", None)
    module.register_buffer("counted", torch.zeros(2))
    module.log, module.recent, module.seen, module.cache = [1], deque([1, 2], maxlen=2), {1}, None
    module.table, module.n = np.arange(3), 0
    state = HeldState([module])
    assert not state.is_changed()
    module.filled, module.new, module.cache = torch.ones(1), "new", torch.ones(1)
    module.counted += 1
    module.log.append(2)
    module.recent.append(3)
    module.seen.add(2)
    module.table[0] = 9
    module.n += 1
    assert state.is_changed()
    assert [value for (_, name), value in numbers_in([module]).items() if name == "Module.n"] == [1]
    state.restore()
    assert not state.is_changed()
    assert (module.filled, module.cache, module.log, module.seen, module.n) == (None, None, [1], {1}, 0)
    assert (list(module.recent), module.table.tolist(), module.counted.tolist()) == ([1, 2], [0, 1, 2], [0, 0])
    assert not hasattr(module, "new")


@pytest.mark.filterwarnings("ignore:Sparse CS")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=["coo", "csr", "csc"])
def test_a_sparse_tensor_is_kept(layout):
    class Owner:
        graph = None

    owner, dense = Owner(), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    owner.graph = dense.to_sparse(layout=layout)
    state = HeldState([owner])
    assert not state.is_changed()
    owner.graph.values().fill_(7.0) if layout != torch.sparse_coo else owner.graph._values().fill_(7.0)
    assert state.is_changed()
    state.restore()
    assert torch.equal(owner.graph.to_dense(), dense)
