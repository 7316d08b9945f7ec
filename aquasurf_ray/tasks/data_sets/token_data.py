"""Text as examples for a causal language model: pieces of tokens, each with the next token as its target.

The shift is made here, once: the target of position i is the token at i + 1, so loss, perplexity and spectra compare
outputs and targets position by position.

    source                                    items
    one text or sequence of tokens            (tokens, next tokens): pieces of `length`, without a gap, none padded
    several documents                         ({"input_ids", "attention_mask"}, next tokens): pieces of one document
                                              each, padded at the end to `length` with mask 0 and target -100

The first 80% are for training, the next 10% for validation, the last 10% for the test: of the tokens of one text, or of
the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.targets import IGNORED
from aquasurf_ray.tasks.task import Splits

TextOrTokens = Any
"""A text, its tokens as a sequence or tensor of integers, a list of such documents, or a function that returns one."""

SHARES = (0.8, 0.9)
"""The shares of the text at which training ends and the test begins."""


def utf8(text: str) -> list[int]:
    """Return the bytes of a text, 0 to 255: the tokens of a model that needs no tokenizer.

    >>> utf8("é!")
    [195, 169, 33]
    """
    return list(text.encode())


@dataclass(frozen=True)
class TokenData:
    """A `Task.data` from text or tokens.

    Args:
        source: see the module. A function without arguments is called where the data are loaded.
        length: the number of positions of an example.
        vocabulary: the number of tokens that the model knows.
        tokenizer: (text) -> tokens, or transformers' tokenizer; by default the bytes of the text in UTF-8.
        padding: the token at padded positions.
    """

    source: TextOrTokens
    length: int
    vocabulary: int
    tokenizer: Callable[[str], Any] = utf8
    padding: int = 0

    def __call__(self) -> Splits:
        """Return the splits, in memory.

        Raises:
            TaskError: the source is of another form, has a token that the model does not know, or is too short.
        """
        source = self.source() if callable(self.source) else self.source
        if _is_documents(source):
            documents = [self._tokens(document) for document in source]
            parts = _cut(documents, len(documents))
            return Splits(*(self._padded([document for document in part if len(document) > 1]) for part in parts))
        tokens = self._tokens(source)
        return Splits(*(self._pieces(part) for part in _cut(tokens, len(tokens))))

    def _tokens(self, text: Any) -> Tensor:
        if isinstance(text, str):
            text = self.tokenizer(text)
            text = text["input_ids"] if hasattr(text, "keys") else text
        try:
            tokens = torch.as_tensor(text)
        except (TypeError, ValueError, RuntimeError):
            tokens = torch.empty(0)
        if tokens.dim() != 1 or tokens.is_floating_point() or len(tokens) == 0:
            raise TaskError(f"text must be a text, a row of integers, or a list of these, got {type(text).__name__}")
        # An embedding that is asked for a token outside its table stops a GPU with an assertion that names no cause.
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.vocabulary:
            raise TaskError(f"tokens must lie in [0, {self.vocabulary}), the model's vocab_size, got {low} to {high}")
        return tokens.long()

    def _pieces(self, tokens: Tensor) -> TensorDataset:
        # One less, because the last token is a target only. The rest that fills no piece is dropped, so that none is
        # padded.
        n = (len(tokens) - 1) // self.length
        if n < 1:
            raise TaskError(
                f"each split needs more than {self.length} tokens, got one of {len(tokens)}; "
                "give more text, or a smaller length="
            )
        shape = (n, self.length)
        end = n * self.length
        return TensorDataset(tokens[:end].reshape(shape), tokens[1 : end + 1].reshape(shape))

    def _padded(self, documents: Sequence[Tensor]) -> PaddedTokens:
        # Not from the last token, which has no next one.
        starts = [(document, start) for document in documents for start in range(0, len(document) - 1, self.length)]
        if not starts:
            raise TaskError("each split needs a document of two tokens or more; give more documents, or one text")
        inputs = torch.full((len(starts), self.length), self.padding)
        targets = torch.full((len(starts), self.length), IGNORED)
        for row, (document, start) in enumerate(starts):
            following = document[start + 1 : start + self.length + 1]
            inputs[row, : len(following)] = document[start : start + len(following)]
            targets[row, : len(following)] = following
        return PaddedTokens(inputs, targets)


class PaddedTokens(Dataset[Any]):
    """Padded pieces of documents: items ({"input_ids", "attention_mask"}, targets)."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets
        self.mask = (targets != IGNORED).long()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"input_ids": self.inputs[index], "attention_mask": self.mask[index]}, self.targets[index]


def _is_documents(source: Any) -> bool:
    # A list of numbers is one document's tokens; a list of anything else is a list of documents.
    return isinstance(source, list | tuple) and len(source) > 0 and not isinstance(source[0], int)


def _cut(whole: Any, n: int) -> tuple[Any, Any, Any]:
    # In order and not at random: neighbouring pieces of one text share words, which a random split would leak to the
    # test.
    first, second = (round(share * n) for share in SHARES)
    return whole[:first], whole[first:second], whole[second:]
