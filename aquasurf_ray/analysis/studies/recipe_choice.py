"""Each function's own recipe: the change of it that trains best, chosen on seeds that judge nothing; and the baselines
that are worth judging, chosen with the same trainings.

Every function of a confirmation, baselines included, is trained with every change and every choosing seed, so that none
has more tries than another. The choice is by the mean validation score. A change with which a training diverged is
chosen only if all have that; of equal ones, the one that was given first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import nan

from aquasurf_ray.analysis.studies.confirmation import SeedMean, seed_mean
from aquasurf_ray.recipe_change import LEARNING_RATE, RecipeChange
from aquasurf_ray.store import RequestedEvaluation, Run


@dataclass(frozen=True)
class Tuning:
    """The recipe changes that a confirmation chooses from, and the seeds that it chooses with.

    A confirmation that tunes nothing has one change, none, and no seeds to choose with. `n_baselines` is the number of
    baselines that are judged besides the reference; None for all.
    """

    changes: tuple[str, ...]
    seeds: range
    n_baselines: int | None = None

    @classmethod
    def of(cls, run: Run) -> Tuning:
        """Return the tuning of a run of kind confirm. Its choosing seeds follow the judging ones."""
        changes = tuple(run.config.get("recipe_changes") or ("",))
        first = int(run.config.get("first_seed", 0)) + int(run.config["seeds"])
        seeds = range(first, first + (int(run.config["rate_seeds"]) if len(changes) > 1 else 0))
        return cls(changes, seeds, run.config.get("judged_baselines"))

    @property
    def field(self) -> str | None:
        """The field of the recipe that is tuned; None if no training has a change."""
        return next((change.field for text in self.changes if (change := RecipeChange.parse(text)) is not None), None)

    def value(self, change: str) -> float | None:
        """Return the factor on the learning rate; or the value of another field, None for the recipe's own."""
        found = RecipeChange.parse(change)
        return found.value if found is not None else 1.0 if self.field == LEARNING_RATE else None

    def is_complete(self, requests: Iterable[RequestedEvaluation], function_ids: Collection[int]) -> bool:
        """Return whether every function has a result with every change and every choosing seed."""
        done = {each.evaluation.key for each in requests if each.evaluation.finished}
        wanted = {(i, seed, change) for i in function_ids for seed in self.seeds for change in self.changes}
        return wanted <= done

    def tried(
        self, requests: Iterable[RequestedEvaluation], function_ids: Sequence[int]
    ) -> dict[int, dict[str, SeedMean]]:
        """Return the means over the choosing seeds, by function and change. What is not trained yet counts as NaN."""
        scores = {number: {change: [nan] * len(self.seeds) for change in self.changes} for number in function_ids}
        for done in (each.evaluation for each in requests):
            wanted = done.seed in self.seeds and done.recipe_change in self.changes
            if wanted and done.function_id in scores and done.score is not None:
                scores[done.function_id][done.recipe_change][self.seeds.index(done.seed)] = done.score
        return {
            number: {change: seed_mean(row) for change, row in by_change.items()}
            for number, by_change in scores.items()
        }

    def chosen(self, requests: Iterable[RequestedEvaluation], function_ids: Sequence[int]) -> dict[int, str]:
        """Return the change of the recipe that each function is judged with."""
        tried = self.tried(requests, function_ids)
        return {number: max(self.changes, key=lambda change: means[change].merit) for number, means in tried.items()}

    def judged(
        self,
        requests: Iterable[RequestedEvaluation],
        function_ids: Sequence[int],
        *,
        baselines: Collection[int],
        always: Collection[int],
    ) -> list[int]:
        """Return the functions that are judged, in the given order: all but baselines that do worse than the best
        `n_baselines` of them, each at its own best change. Those in `always` are judged and do not count."""
        if self.n_baselines is None:
            return list(function_ids)
        tried = self.tried(requests, function_ids)
        merits = {number: max(mean.merit for mean in means.values()) for number, means in tried.items()}
        others = [number for number in function_ids if number in baselines and number not in always]
        left_out = sorted(others, key=lambda number: -merits[number])[self.n_baselines :]
        return [number for number in function_ids if number not in left_out]
