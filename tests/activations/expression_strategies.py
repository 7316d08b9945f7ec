"""Hypothesis strategies for expressions, shared by the tests of this room."""

from __future__ import annotations

from hypothesis import strategies as st

from aquasurf_ray.activations import Expression
from aquasurf_ray.activations.operators import ALL_UNARY, BINARY, NARY


def _apply(name: str, *arguments: Expression) -> Expression:
    return Expression(name, arguments)


def _extend(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(_apply, st.sampled_from(ALL_UNARY), children),
        st.builds(_apply, st.sampled_from(BINARY), children, children),
        st.builds(_apply, st.sampled_from(NARY), children, children, children, children),
    )


EXPRESSIONS = st.recursive(st.just(Expression()), _extend, max_leaves=12)
