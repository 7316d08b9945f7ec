"""JAX source: a function of arrays."""

from __future__ import annotations

from aquasurf_ray.activations.sources.writer import Language, Learning

JAX = Language(
    title="JAX",
    frame='''import jax{imports}{definitions}


@jax.jit
def {name}(x: jax.Array) -> jax.Array:
    r"""{words}.

    f(x) = {latex}

    As an expression of aquasurf-ray: {expression}
    """
{lines}    return {result}
''',
    imports={"jnp.": "\nimport jax.numpy as jnp", "special.": "\nfrom jax.scipy import special"},
    indent=4,
    operators={
        "zero": "jnp.zeros_like({0})",
        "one": "jnp.ones_like({0})",
        "identity": "{0}",
        "negative": "(-{0})",
        "abs": "jnp.abs({0})",
        "reciprocal": "(1 / {0})",
        "square": "jnp.square({0})",
        "exp": "jnp.exp({0})",
        "erf": "special.erf({0})",
        "erfc": "special.erfc({0})",
        "sinh": "jnp.sinh({0})",
        "cosh": "jnp.cosh({0})",
        "tanh": "jnp.tanh({0})",
        "expm1": "jnp.expm1({0})",
        "sigmoid": "jax.nn.sigmoid({0})",
        "log_sigmoid": "jax.nn.log_sigmoid({0})",
        "arcsinh": "jnp.arcsinh({0})",
        "arctan": "jnp.arctan({0})",
        "bessel_i0e": "special.i0e({0})",
        "bessel_i1e": "special.i1e({0})",
        "relu": "jax.nn.relu({0})",
        "elu": "jax.nn.elu({0})",
        "selu": "jax.nn.selu({0})",
        "swish": "jax.nn.silu({0})",
        "softplus": "jax.nn.softplus({0})",
        "softsign": "jax.nn.soft_sign({0})",
        "hard_sigmoid": "jnp.clip(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "(jax.nn.elu({0}) * jax.nn.sigmoid({0}))",
        "leakyrelu": "jax.nn.leaky_relu({0}, 0.01)",
        "mish": "jax.nn.mish({0})",
        # JAX approximates with tanh by default; PyTorch does not.
        "gelu": "jax.nn.gelu({0}, approximate=False)",
        "sin": "jnp.sin({0})",
        "cos": "jnp.cos({0})",
        "sinc": "jnp.sinc({0} / jnp.pi)",
        "sqrt": "jnp.sqrt({0})",
        "add": "({0} + {1})",
        "sub": "({0} - {1})",
        "mul": "({0} * {1})",
        "div": "({0} / {1})",
        "pow": "jnp.power({0}, {1})",
        "max": "jnp.maximum({0}, {1})",
        "min": "jnp.minimum({0}, {1})",
    },
    joiners={"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"},
    learning=Learning(
        declarations=(
            '"{name}": jnp.asarray({initial}),',
            '"{name}": jnp.full((channels,), {initial}),  # channels are the last dimension',
        ),
        uses=('{name} = parameters["{name}"].astype(x.dtype)', '{name} = parameters["{name}"].astype(x.dtype)'),
        channels="channels: int",
        frame='''import jax{imports}{definitions}


def initial_parameters({channels}) -> dict[str, jax.Array]:
    """The learned parameters of one layer before the training."""
    return {{
{declarations}    }}


@jax.jit
def {name}(x: jax.Array, parameters: dict[str, jax.Array]) -> jax.Array:
    r"""{words}.

    f(x) = {latex}

    As an expression of aquasurf-ray: {expression}
    """
{lines}    return {result}
''',
    ),
)
