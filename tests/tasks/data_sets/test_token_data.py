"""Text becomes pieces whose targets are the next tokens; documents are padded, and padding does not count."""

from __future__ import annotations

import pytest
import torch

from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.data_sets.token_data import TokenData, utf8
from aquasurf_ray.tasks.targets import IGNORED


def whole(split):
    return [split[i] for i in range(len(split))]


def test_pieces_of_one_text_follow_each_other_and_targets_are_one_ahead():
    splits = TokenData(torch.arange(100), 7, 100)()
    inputs, targets = (torch.stack(column) for column in zip(*whole(splits.train), strict=True))
    assert inputs.flatten().tolist() == list(range(77))  # 80 tokens for training: 11 pieces of 7 with a next token
    assert torch.equal(targets, inputs + 1)
    assert splits.validation[0][0].tolist() == list(range(80, 87))
    assert splits.test[0][0].tolist() == list(range(90, 97))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (11, 1, 1)


def test_every_token_of_a_document_but_the_first_is_a_target_once():
    documents = [list(range(10 * i, 10 * i + n)) for i, n in enumerate([5, 1, 2, 9, 4, 3, 6, 8, 7, 4])]
    splits = TokenData(documents, 4, 100, padding=99)()
    items = whole(splits.train)
    counted = [int(t) for _, targets in items for t in targets if t != IGNORED]
    assert counted == [token for document in documents[:8] for token in document[1:]]
    for inputs, targets in items:
        n = int(inputs["attention_mask"].sum())
        assert inputs["attention_mask"].tolist() == [1] * n + [0] * (4 - n)
        assert inputs["input_ids"][n:].tolist() == [99] * (4 - n)
        assert targets[n:].tolist() == [IGNORED] * (4 - n)
        assert (inputs["input_ids"][:n] + 1).tolist() == targets[:n].tolist()
    assert len(whole(splits.validation)) == 2  # seven tokens: four targets and two


def test_a_tokenizer_of_transformers_and_a_custom_one_make_tokens():
    text = "to be or not to be, that is the question, whether it is nobler to be" * 3
    by_hand = TokenData(text, 8, 256, tokenizer=lambda t: [ord(c) for c in t])()
    plain = TokenData(text, 8, 256, tokenizer=lambda t: {"input_ids": utf8(t)})()
    assert torch.equal(by_hand.train[0][0], plain.train[0][0])
    assert torch.equal(TokenData(lambda: text, 8, 256)().train[0][0], plain.train[0][0])
    assert bytes(plain.train[0][0].tolist()).decode() == text[:8]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("abc", r"each split needs more than 8 tokens, got one of 2; give more text, or a smaller length="),
        (["one document"], "each split needs a document of two tokens or more"),
        ("é" * 100, r"tokens must lie in \[0, 128\), the model's vocab_size, got 169 to 195"),
        (torch.ones(50), "text must be a text, a row of integers, or a list of these, got Tensor"),
        (torch.ones(5, 5, dtype=torch.int64), "text must be a text, a row of integers, or a list of these"),
        (["", "a"], "text must be a text, a row of integers, or a list of these"),
        (3.5, "text must be a text, a row of integers, or a list of these, got float"),
    ],
)
def test_sources_that_make_no_examples_are_refused_in_one_line(source, text):
    with pytest.raises(TaskError, match=text) as raised:
        TokenData(source, 8, 128)()
    assert "\n" not in str(raised.value)
