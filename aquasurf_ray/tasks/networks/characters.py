"""The `characters` task: a transformer of two blocks that predicts the next character of English text.

The text is Python's own language reference, which the standard library has in `pydoc_data.topics`, so every machine
has it. It differs between versions of Python, and so does the task's digest: results compare within one minor version.
The first 400,000 characters, in the order of the topics' names, are cut into pieces of 48; a piece's targets are the
next characters. The last fifth of the text is for validation and test, so no piece is seen in both. The metric is
perplexity.

The recipe is tuned for relu by a grid of learning rates and epochs with three seeds
(`benchmarks/evidence/recipes.py`; its output is `benchmarks/results/2-core-x86_64-vm/recipes.json`). Four epochs are
the most that were tried, and the network would still improve with more; they keep a training short.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from aquasurf_ray.tasks.networks.transformer import Block
from aquasurf_ray.tasks.objective import language_modelling
from aquasurf_ray.tasks.recipe import Recipe
from aquasurf_ray.tasks.task import ActivationFactory, Splits, Task

N_CHARACTERS = 400_000
LENGTH, WIDTH, HEADS = 48, 48, 4
VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))  # the line feed and printable ASCII
RECIPE = Recipe(
    epochs=4,
    batch_size=64,
    learning_rate=0.01,
    optimizer="adamw",
    weight_decay=0.1,
    schedule="cosine",
    warmup_fraction=0.1,
    clip_norm=1.0,
)


def characters() -> Task:
    """Return the task: AdamW with warm-up and cosine, batches of 64 pieces."""
    return Task(
        name="characters",
        network=Characters,
        data=characters_data,
        recipe=RECIPE,
        objective=language_modelling(),
        spectrum_batch_size=32,
        time_limit=600.0,
    )


class Characters(nn.Module):
    """The network: tokens (n, t) int64 to logits (n, t, vocabulary)."""

    def __init__(self, activation: ActivationFactory) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(VOCABULARY), WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(*(Block(activation, WIDTH, HEADS, causal=True) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(VOCABULARY))
        for table in (self.characters, self.positions):
            nn.init.normal_(table.weight, std=0.02)  # as in GPT-2 (Radford et al. 2019)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.characters(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def characters_data() -> Splits:
    """Return the splits as in-memory tensors: inputs and targets (n, 48) int64."""
    tokens = torch.tensor([VOCABULARY.index(character) for character in reference_text()])

    def pieces(start: float, end: float) -> TensorDataset:
        part = tokens[int(start * len(tokens)) : int(end * len(tokens))]
        n = (len(part) - 1) // LENGTH
        return TensorDataset(part[: n * LENGTH].reshape(n, LENGTH), part[1 : n * LENGTH + 1].reshape(n, LENGTH))

    return Splits(train=pieces(0, 0.8), validation=pieces(0.8, 0.9), test=pieces(0.9, 1))


def reference_text() -> str:
    """Return the first 400,000 characters of Python's language reference that are in the vocabulary."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return "".join(character for character in text if character in set(VOCABULARY))[:N_CHARACTERS]
