"""TensorFlow source: a function of tensors, which Keras takes where it takes an activation."""

from __future__ import annotations

from aquasurf_ray.activations.sources.writer import Language, Learning

TENSORFLOW = Language(
    title="TensorFlow",
    frame='''import tensorflow as tf{imports}{definitions}


@tf.function
def {name}(x: tf.Tensor) -> tf.Tensor:
    r"""{words}.

    f(x) = {latex}

    As an expression of aquasurf-ray: {expression}
    For Keras: tf.keras.layers.Dense(64, activation={name}), or tf.keras.layers.Activation({name})
    """
{lines}    return {result}
''',
    imports={},
    indent=4,
    operators={
        "zero": "tf.zeros_like({0})",
        "one": "tf.ones_like({0})",
        "identity": "{0}",
        "negative": "(-{0})",
        "abs": "tf.abs({0})",
        "reciprocal": "tf.math.reciprocal({0})",
        "square": "tf.square({0})",
        "exp": "tf.exp({0})",
        "erf": "tf.math.erf({0})",
        "erfc": "tf.math.erfc({0})",
        "sinh": "tf.sinh({0})",
        "cosh": "tf.cosh({0})",
        "tanh": "tf.tanh({0})",
        "expm1": "tf.math.expm1({0})",
        "sigmoid": "tf.sigmoid({0})",
        "log_sigmoid": "tf.math.log_sigmoid({0})",
        "arcsinh": "tf.asinh({0})",
        "arctan": "tf.atan({0})",
        "bessel_i0e": "tf.math.bessel_i0e({0})",
        "bessel_i1e": "tf.math.bessel_i1e({0})",
        "relu": "tf.nn.relu({0})",
        "elu": "tf.nn.elu({0})",
        "selu": "tf.nn.selu({0})",
        "swish": "tf.nn.silu({0})",
        "softplus": "tf.math.softplus({0})",
        "softsign": "tf.nn.softsign({0})",
        "hard_sigmoid": "tf.clip_by_value(0.2 * {0} + 0.5, 0.0, 1.0)",
        "elish": "(tf.nn.elu({0}) * tf.sigmoid({0}))",
        "leakyrelu": "tf.nn.leaky_relu({0}, 0.01)",
        "mish": "({0} * tf.tanh(tf.math.softplus({0})))",
        "gelu": "tf.nn.gelu({0}, approximate=False)",
        "sin": "tf.sin({0})",
        "cos": "tf.cos({0})",
        # The inner where keeps the gradient at 0 from being NaN: the branch not taken is differentiated, too.
        "sinc": "tf.where({0} == 0, tf.ones_like({0}), tf.sin({0}) / tf.where({0} == 0, tf.ones_like({0}), {0}))",
        "sqrt": "tf.sqrt({0})",
        "add": "({0} + {1})",
        "sub": "({0} - {1})",
        "mul": "({0} * {1})",
        "div": "({0} / {1})",
        "pow": "tf.pow({0}, {1})",
        "max": "tf.maximum({0}, {1})",
        "min": "tf.minimum({0}, {1})",
    },
    joiners={"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"},
    learning=Learning(
        declarations=(
            '"{name}": tf.Variable({initial}, name="{name}"),',
            '"{name}": tf.Variable(tf.fill([channels], {initial}), name="{name}"),  # channels are the last dimension',
        ),
        uses=(
            '{name} = tf.cast(parameters["{name}"], x.dtype)',
            '{name} = tf.cast(parameters["{name}"], x.dtype)',
        ),
        channels="channels: int",
        frame='''import tensorflow as tf{imports}{definitions}


def initial_parameters({channels}) -> dict[str, tf.Variable]:
    """The learned parameters of one layer before the training."""
    return {{
{declarations}    }}


@tf.function
def {name}(x: tf.Tensor, parameters: dict[str, tf.Tensor]) -> tf.Tensor:
    r"""{words}.

    f(x) = {latex}

    As an expression of aquasurf-ray: {expression}
    """
{lines}    return {result}
''',
    ),
)
