"""Spaces: what they contain, their identity, and the files that define them."""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path

import pytest

from aquasurf_ray.activations import BASELINES, SPACES, SearchSpace, SpaceError, parse

UNARY = ("relu", "tanh", "exp")


@pytest.mark.parametrize(
    ("name", "n_names"),
    [("three-node", 27 * 27 * 7), ("four-node", 1_023_524), ("coatnet", 31**4 + 3 * 7 * 31**3 + 4 * 31**3 + 8)],
)
def test_built_in_spaces_have_their_sizes(name: str, n_names: int) -> None:
    space = SearchSpace.named(name)
    assert space.n_names == n_names
    assert name in SPACES
    assert SearchSpace.load(name) == space
    assert pickle.loads(pickle.dumps(space)).digest == space.digest


def test_names_are_all_different_canonical_and_indexed() -> None:
    space = SearchSpace.define(
        "s",
        ["unary(binary(unary(x),x))", "nary(unary(x),relu(x),unary(unary(x)))", "x"],
        unary=UNARY,
        binary=["sub", "mul"],
        nary=["max_n"],
        names=["elish(x)", " elish( x )", "relu(sub(tanh(x),x))"],
    )
    names = list(space.names())
    assert len(set(names)) == len(names) == space.n_names == 3 * 2 * 3 + 3 * 9 + 1 + 1
    assert [str(parse(name)) for name in names] == names
    assert [space.name_at(i) for i in range(space.n_names)] == names
    assert all(parse(name) in space for name in names)
    assert parse("gelu(x)") not in space
    assert parse("relu(sub(x,tanh(x)))") not in space
    assert parse("x") not in SearchSpace.named("three-node")
    for index in (-1, len(names)):
        with pytest.raises(IndexError, match=f"got index {index}"):
            space.name_at(index)


def test_the_three_node_space_is_the_product_of_its_operators() -> None:
    space = SearchSpace.named("three-node")
    (schema,) = space.schemas
    unary = schema.arguments[0].choices
    expected = {f"{b}({u}(x),{v}(x))" for b, u, v in itertools.product(schema.choices, unary, unary)}
    assert set(space.names()) == expected


def test_the_four_node_space_has_five_shapes_and_the_baselines() -> None:
    space = SearchSpace.named("four-node")
    for name in (
        "selu(sinh(expm1(arctan(x))))",
        "swish(add(negative(x),negative(x)))",
        "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))",
        "mul(swish(x),erfc(bessel_i0e(x)))",
        "prod_n(sigmoid(x),negative(x),hard_sigmoid(x))",
        *BASELINES,
    ):
        assert parse(name) in space
    assert list(space.names())[-8:] == list(BASELINES)
    indices = random.Random(0).sample(range(space.n_names), 500)
    names = list(itertools.islice(space.names(), space.n_names))
    assert all(space.name_at(i) == names[i] for i in indices)
    assert parse("gelu(gelu(gelu(gelu(x))))") not in space
    assert parse("gelu(gelu(gelu(gelu(x))))") in SearchSpace.named("coatnet")


def test_the_digest_is_of_the_definition() -> None:
    def digest(name: str = "a", schema: str = "unary(x)", **more: object) -> str:
        return SearchSpace.define(name, [schema], unary=more.pop("unary", UNARY), **more).digest  # type: ignore[arg-type]

    assert digest() == digest(name="b")
    assert digest() == digest(binary=["add"])  # a list that no schema uses
    different = [
        digest(),
        digest(schema="unary(unary(x))"),
        digest(unary=UNARY[:2]),
        digest(unary=UNARY[::-1]),
        digest(names=["elu(x)"]),
        SearchSpace.named("three-node").digest,
        SearchSpace.named("four-node").digest,
        SearchSpace.named("coatnet").digest,
    ]
    assert len(set(different)) == len(different)


def test_digests_do_not_change_with_versions() -> None:
    # Runs keep the digest of their space: if this fails, old runs cannot go on.
    assert SearchSpace.named("three-node").digest == "b503e189a6d01160fce991a787891959"
    assert SearchSpace.named("four-node").digest == "0f224953794896ab89c00f84e51cff9e"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_defines_a_space(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        unary: [relu, swish]
        binary: [mul]
        schemas:
          - binary(unary(x), unary(x))
        names: ["elu(x)"]
        """,
    )
    space = SearchSpace.load(str(path))
    assert space.name == "mine"
    assert list(space.names()) == [
        "mul(relu(x),relu(x))",
        "mul(relu(x),swish(x))",
        "mul(swish(x),relu(x))",
        "mul(swish(x),swish(x))",
        "elu(x)",
    ]
    same = SearchSpace.define(
        "other", ["binary(unary(x),unary(x))"], unary=["relu", "swish"], binary=["mul"], names=["elu(x)"]
    )
    assert space.digest == same.digest


def test_left_out_lists_are_the_seeds(tmp_path: Path) -> None:
    path = write(tmp_path, "name: n\nschemas: ['binary(unary(x),unary(x))']")
    assert SearchSpace.from_yaml(path).digest == SearchSpace.named("three-node").digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: [unary(x)]", "unknown key 'schema'; the keys are name, unary, binary, nary, schemas, names, modules"),
        ("3: [unary(x)]", "unknown key '3'"),
        ("[relu(x)]", "must be a mapping with name, .*, got list"),
        ("", "must be a mapping .*, got NoneType"),
        ("names: [relu(x", "is not YAML at line 1, column 15"),
        ("names: !!python/object/apply:os.getcwd []", "is not YAML at line 1, column 8: could not determine"),
        ("names: [\x01]", "is not YAML"),
        ("names: relu(x)", "names must be a list of texts, got 'relu\\(x\\)'"),
        ("names: [3]", "names must be a list of texts"),
        ("name: [a]\nnames: [x]", "name must be text"),
        ("names: []", "space 'mine' is empty; give schemas or names"),
        ("names: ['rleu(x)']", "unknown operator 'rleu' at 1; did you mean 'relu'?"),
        ("schemas: ['unry(x)']", "schema 'unry\\(x\\)': unknown operator 'unry' at 1; did you mean 'unary'?"),
        ("schemas: ['mul(unary(x))']", "operator 'mul' at 1 takes 2 arguments, got 1"),
        ("schemas: ['binary(unary(x))']", "operator 'add' at 1 takes 2 arguments, got 1"),
        ("schemas: ['unary(x)']\nunary: []", "there are no unary operators to choose from at 1"),
        ("schemas: ['unary(x)']\nunary: [rleu]", "unknown unary operator 'rleu'; did you mean 'relu'?"),
        ("schemas: ['unary(x)']\nunary: [add]", "operator 'add' is binary, listed as unary"),
        ("schemas: ['unary(x)']\nunary: [relu, relu]", "unary operator 'relu' is listed twice"),
        ("schemas: ['unary(x)', 'relu(x)']", "schemas 'unary\\(x\\)' and 'relu\\(x\\)' have names in common"),
        ("modules: [no_such_module_here]\nnames: [x]", "module 'no_such_module_here' cannot be imported"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        SearchSpace.from_yaml(write(tmp_path, text))
    assert str(caught.value).startswith("space file '")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="cannot be read: No such file or directory"):
        SearchSpace.load(tmp_path / "none.yaml")
    with pytest.raises(SpaceError, match="cannot be read: Is a directory"):
        SearchSpace.load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"names: [\xff\xfe]")
    with pytest.raises(SpaceError, match="is not UTF-8 text at byte 8"):
        SearchSpace.load(tmp_path / "binary.yaml")
    with pytest.raises(
        SpaceError, match="unknown space 'five-node'; use three-node, four-node, coatnet, open or a YAML file"
    ):
        SearchSpace.load("five-node")
