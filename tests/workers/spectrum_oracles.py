"""What spectra are held against: the whole Fisher block from per-sample gradients, and curvlinops' factors."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1), reduction="sum")


def block_eigenvalues(model, layer, inputs, targets, loss=cross_entropy):
    """Eigenvalues, descending, of the mean outer product of per-sample gradients by the layer's parameters.

    The loss is of one sample: (outputs [1, ..., c], targets) -> the sum over its positions and values.
    """
    names = [f"{layer}.weight", f"{layer}.bias"]
    parameters = dict(model.named_parameters())

    def own_loss(own, x, y):
        return loss(functional_call(model, {**parameters, **own}, (x[None],)), y)

    gradients = vmap(grad(own_loss), in_dims=(None, 0, 0))({n: parameters[n].detach() for n in names}, inputs, targets)
    rows = torch.cat([gradients[n].flatten(1) for n in names], dim=1)
    return torch.linalg.eigvalsh(rows.T @ rows / len(rows)).flip(0).detach().numpy()


def assert_same_spectrum(spectrum, expected):
    """Where the expected eigenvalues are not numerically zero; the others must lie at the floor or below."""
    found = np.exp(spectrum.log_eigenvalues())[::-1]
    positive = expected > 1e-6 * expected[0]
    np.testing.assert_allclose(found[positive], expected[positive], rtol=1e-8)
    assert (found[~positive] <= 2e-7 * expected[0]).all()
    assert positive.any()
    assert len(found) == len(expected)


def curvlinops_factors(model, loss, inputs, targets, fisher_type="empirical"):
    """Their factors by layer name; A is divided by the positions and G summed, so that the block is a sum over data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a dependency of theirs uses torch.jit.script at import
        from curvlinops import KFACLinearOperator

    operator = KFACLinearOperator(
        model,
        loss,
        [p for p in model.parameters() if p.requires_grad],
        [(inputs, targets)],
        check_deterministic=False,
        fisher_type=fisher_type,
        kfac_approx="expand",
        separate_weight_and_bias=False,
    )
    operator.compute_kronecker_factors()
    return operator._input_covariances, operator._gradient_covariances
