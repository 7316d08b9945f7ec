"""The candidates of an open space, and functions for each role of a network: a run makes new ones from its best
functions while it searches.

After every `PERIOD` suggestions there is a generation. Children of the best functions so far are made by the thousand
(`activations.spaces.growth`), evaluated and deduplicated, and the surrogate on outputs chooses those that become
candidates (`surrogate.screening`); their spectra decide with which of them the search continues.

A network with roles (`tasks.roles`) makes a run of any space grow: its first candidates are the same in all roles, and
children of the best have another function in one role, or each role's from one of two parents
(`activations.spaces.role_growth`). In the open space, half of the children are new functions for all roles.

A generation depends on the seed, its number and stored facts alone: the candidates, and the results of the evaluations
that were requested before the suggestion that made it due. That suggestion itself is left out, because it may or may
not have ended. So one worker and one seed give one sequence, however often the run is interrupted; and the driver grows
while the worker trains.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aquasurf_ray.activations import ActivationError, Expression, Function, parse_function
from aquasurf_ray.activations.roles import function_of
from aquasurf_ray.activations.spaces.evaluation import Evaluated
from aquasurf_ray.activations.spaces.growth import children
from aquasurf_ray.activations.spaces.role_growth import role_children
from aquasurf_ray.activations.standardization import core, standardized
from aquasurf_ray.driver.events import CandidatesGrown
from aquasurf_ray.driver.settings.models import OPEN
from aquasurf_ray.driver.state.context import RunContext
from aquasurf_ray.driver.state.evaluations import FINAL
from aquasurf_ray.driver.suggestions.proposals import ProposalCommand
from aquasurf_ray.driver.suggestions.standard_forms import StandardForms
from aquasurf_ray.seed_means import score_of_seeds
from aquasurf_ray.store import FunctionRecord, FunctionRow, NewCandidate
from aquasurf_ray.surrogate.screening import screened
from aquasurf_ray.tasks.errors import TaskError
from aquasurf_ray.tasks.roles import refuse_other_roles

PERIOD = 4
"""Suggestions between two generations."""
MOST_PARENTS = 32
CHILDREN_A_CANDIDATE = 8
"""Children that are made for one that becomes a candidate: the surrogate on outputs has this many to choose from."""
FEWEST_CHILDREN = 400
PROPOSAL = "proposal"
"""The origin of candidates that a person or a command proposed."""


@dataclass(frozen=True)
class _TrainedFunction:
    """A function with a result: None if it diverged."""

    function: FunctionRecord
    expression: Function
    score: float | None


@dataclass(frozen=True)
class _NewFunction:
    """A new function, and where it comes from: the change, and the numbers of its parents."""

    expression: Function
    change: str
    parents: tuple[int, ...] = ()


def growth_of(context: RunContext, budget: int) -> Growth | None:
    """Return the growth of a run of the open space, or of a network with roles; None for all others."""
    return Growth(context, budget) if context.config.space == OPEN or context.roles else None


class Growth:
    """The generations of one run.

    Args:
        budget: the number of evaluations of the run; nothing grows once they have all begun.
    """

    def __init__(self, context: RunContext, budget: int) -> None:
        config = context.config
        self._context, self._history, self._budget = context, context.history, budget
        self._outputs = context.outputs
        self._trained: dict[int, tuple[FunctionRecord, Function | None]] = {}
        self._of_outputs, self._n_known = set[str](), 0
        grown = context.store.growth(context.run.id)
        self.generation = grown.generation
        self.n_start = len(context.history.candidates) - grown.candidates
        self.can_grow = True
        self._command: ProposalCommand | None = None
        if config.proposals is not None:
            self._command = ProposalCommand(config.proposals, context.events.note, context.clock)
        self._forms = StandardForms() if config.standardize == "on" else None
        self._asked_for = 0  # the generation for which the command was last run

    @property
    def is_due(self) -> bool:
        """True if the next suggestion is to choose from a generation that does not exist yet."""
        return self._n_suggested() // PERIOD > self.generation and self._history.counted() < self._budget

    def prepare(self) -> None:
        """Make the generations that are due, unless a command still works on its proposals for them."""
        if self._command is not None:
            self._command.watch()
        if self._history.counted() >= self._budget:
            return
        self._ask_for_proposals()
        while (self.is_due or self._is_used_up()) and not (self._command and self._command.is_running):
            self._grow()
            self._ask_for_proposals()

    def close(self) -> None:
        """End the command."""
        if self._command is not None:
            self._command.close()

    def _n_suggested(self) -> int:
        return self._history.evaluations.n_of("suggestion")

    def _is_used_up(self) -> bool:
        """Return whether no candidate is left to train, and the last attempt at new ones found some."""
        history = self._history
        if not self.can_grow or history.evaluations.n_open:
            return False
        taken = history.evaluations.asked_for | history.ruled_out(self._context.config.max_cost)
        return all(function.id in taken for function in history.candidates)

    def _grow(self) -> None:
        """Make the next generation, store it, and put it into the history."""
        started, generation = time.monotonic(), self.generation + 1
        trained = self._results(before=PERIOD * generation)
        known = {function.fingerprint for function in self._history.candidates}
        outside = [each for each in trained if each.function.id not in self._history.position]
        candidates = [NewCandidate(_row_of(each.function), PROPOSAL) for each in outside]
        known |= {each.function.fingerprint for each in outside}
        n_made = 0
        for made in (self._proposed(), self._made(trained, generation)):
            n_made += len(made)
            chosen = self._chosen(made, trained, known) if made else []
            known |= {candidate.function.fingerprint for candidate in chosen}
            candidates += chosen
        new = self._context.store.grow(self._context.lease, generation, candidates)
        self.generation, self.can_grow = generation, bool(new)
        self._history.extend(new)
        self._read_spectra(new)
        seconds = time.monotonic() - started
        self._context.events.emit(CandidatesGrown(generation, len(new), n_made, seconds))

    def _results(self, before: int) -> list[_TrainedFunction]:
        """Return the functions with a result, best first, of the evaluations requested before this suggestion (counted
        from 1). A function whose operators are unknown here, which only a person can have proposed, is left out."""
        n_suggested, results = 0, dict[tuple[int, str], list[float | None]]()
        for evaluation in self._history.evaluations.values():
            n_suggested += evaluation.origin == "suggestion"
            if n_suggested == before:
                break
            if evaluation.status in FINAL:
                pair = evaluation.function_id, evaluation.recipe_change
                results.setdefault(pair, []).append(evaluation.score)
        scores = self._scores(results)
        self._read(scores)
        trained = []
        for number, score in scores.items():
            function, expression = self._trained[number]
            if expression is not None:
                trained.append(_TrainedFunction(function, expression, score))
        return sorted(trained, key=lambda each: (each.score is None, -(each.score or 0.0)))

    def _scores(self, results: Mapping[tuple[int, str], Sequence[float | None]]) -> dict[int, float | None]:
        """Return each function's score at its best change of the recipe, None if it diverged: the mean of its seeds in
        a search whose leader has several, else the best."""
        scores, leader_seeds = dict[int, float | None](), self._history.evaluations.leader_seeds
        for (number, _), of_seeds in results.items():
            score, before = score_of_seeds(of_seeds, leader_seeds), scores.get(number)
            scores[number] = before if score is None or (before is not None and before >= score) else score
        return scores

    def _read(self, functions: Iterable[int]) -> None:
        """Read and parse functions that are seen for the first time."""
        new = [number for number in functions if number not in self._trained]
        outside = self._context.store.functions([number for number in new if number not in self._history.position])
        for number in new:
            position = self._history.position.get(number)
            function = outside[number] if position is None else self._history.candidates[position]
            self._trained[number] = function, _parsed(function.name)

    def _made(self, trained: Sequence[_TrainedFunction], generation: int) -> list[_NewFunction]:
        config = self._context.config
        learned = config.learned_parameters == "on"
        fit = [each for each in trained if each.score is not None and (learned or not each.expression.parameters)]
        n = max(FEWEST_CHILDREN, CHILDREN_A_CANDIDATE * PERIOD * config.growth)
        if not self._context.roles:
            return self._children(fit, n, generation)
        n_new = n // 2 if config.space == OPEN else 0
        new = self._children(fit, n_new, generation)
        return [*new, *self._role_children(fit, new, n - n_new, generation)]

    def _role_children(
        self, fit: Sequence[_TrainedFunction], new: Sequence[_NewFunction], n: int, generation: int
    ) -> list[_NewFunction]:
        """Return functions per role. A role may get a new function, or one that is a candidate in all roles; with
        standard forms, those of new functions."""
        config = self._context.config
        pool = [each.expression for each in new if isinstance(each.expression, Expression)]
        if self._forms is not None:
            pool = [form for each in pool if (form := standardized(each)) is not None]
        if config.space != OPEN:
            self._read(function.id for function in self._history.candidates)
            known = (self._trained[function.id][1] for function in self._history.candidates)
            pool = [each for each in known if isinstance(each, Expression)]
        if config.learned_parameters == "off":
            pool = [each for each in pool if not each.parameters]
        parents = fit[:MOST_PARENTS]
        made = role_children(
            [each.expression for each in parents], pool, self._context.roles, n, f"{config.seed} {generation}"
        )
        return [
            _NewFunction(child.function, child.change, tuple(parents[i].function.id for i in child.parents))
            for child in made
        ]

    def _children(self, fit: Sequence[_TrainedFunction], n: int, generation: int) -> list[_NewFunction]:
        """Return new functions from the best ones; of functions per role, from those of each role."""
        config = self._context.config
        # The constants around a standard form are not inherited by its children.
        changed = core if self._forms is not None else _as_it_is
        best: dict[Expression, _TrainedFunction] = {}
        for each in fit:
            for role in self._context.roles or ("",):
                best.setdefault(changed(function_of(each.expression, role)), each)
        parents = list(best.items())[:MOST_PARENTS]
        made = children(
            [expression for expression, _ in parents],
            n,
            f"{config.seed} {generation}",
            max_operators=config.max_operators,
            learned=config.learned_parameters == "on",
        )
        return [
            _NewFunction(child.expression, child.change, tuple(parents[i][1].function.id for i in child.parents))
            for child in made
        ]

    def _chosen(
        self, made: Sequence[_NewFunction], trained: Sequence[_TrainedFunction], known: set[str]
    ) -> list[NewCandidate]:
        """Return the new functions that the surrogate on outputs chooses, at most as many as a generation has."""
        if self._forms is not None:
            made = self._standard(made, self._forms)
        found = self._outputs.evaluate([each.expression for each in made], identify=False)
        places = _new_functions(made, self._identities(made, found, known), found, known)
        before = self._outputs.of([each.function for each in trained])
        usable = [i for i, each in enumerate(before) if each.is_finite]
        rows = np.stack([before[i].row for i in usable]) if usable else found.outputs[:0]
        scores = [trained[i].score for i in usable]
        new = found.outputs[places]
        picked = [places[i] for i in screened(rows, scores, new, PERIOD * self._context.config.growth).tolist()]
        chosen: dict[str, int] = {}
        for i, identity in zip(picked, self._identified([made[i] for i in picked]), strict=True):
            if identity not in known:  # known only now if it has learned parameters, or a hidden constant
                chosen.setdefault(identity, i)
        self._outputs.keep(chosen, found)
        candidates = [_candidate(made[i], identity) for identity, i in chosen.items()]
        if self._forms is not None:
            functions = (made[i].expression for i in chosen.values())
            self._forms.add([each for each in functions if isinstance(each, Expression)])
        return candidates

    def _identified(self, made: Sequence[_NewFunction]) -> list[str]:
        return self._outputs.evaluate([each.expression for each in made]).fingerprints

    def _identities(self, made: Sequence[_NewFunction], found: Evaluated, known: set[str]) -> list[str]:
        """Return an identity for each new function, so that it is told from known ones and from the others: its
        fingerprint if another function has the same outputs, else that of its outputs; empty with learned parameters.
        """
        identities, n_alike = list(found.fingerprints), Counter(found.fingerprints)
        alike = known | self._known_outputs() | {identity for identity, n in n_alike.items() if n > 1}
        doubtful = [i for i, each in enumerate(identities) if each and each in alike]
        for i, identity in zip(doubtful, self._identified([made[i] for i in doubtful]), strict=True):
            identities[i] = identity
        return identities

    def _known_outputs(self) -> set[str]:
        """Return the fingerprints of the candidates' outputs, which differ from theirs by hidden constants."""
        new = self._history.candidates[self._n_known :]
        self._of_outputs.update(each.fingerprint for each in self._outputs.of(new))
        self._n_known += len(new)
        return self._of_outputs

    def _standard(self, made: Sequence[_NewFunction], forms: StandardForms) -> list[_NewFunction]:
        """Return new functions in their standard form; those per role consist of standard forms already."""
        forms.read([function.name for function in self._history.candidates])
        plain = [each for each in made if isinstance(each.expression, Expression)]
        found = forms.of([each.expression for each in plain if isinstance(each.expression, Expression)])
        of_roles = [each for each in made if not isinstance(each.expression, Expression)]
        return [*(replace(plain[i], expression=form) for i, form in found.items()), *of_roles]

    def _read_spectra(self, new: Sequence[FunctionRecord]) -> None:
        """Read the spectra that other runs of the task have stored already."""
        config, ids = self._context.config, [function.id for function in new]
        found = self._context.store.spectra(
            self._context.lease.task_id, ids, fisher=config.fisher, seed=config.training_seed
        )
        self._history.spectra.update(found)

    # -- the command that proposes

    def _ask_for_proposals(self) -> None:
        """Run the command for the next generation, once the results are there that it gets.

        They are those that the last generation grew from, so that it works while functions are trained.
        """
        before = max(1, PERIOD * self.generation)
        if self._command is None or self._asked_for > self.generation or self._n_suggested() < before:
            return
        self._asked_for = self.generation + 1
        self._command.start(self._document(self._results(before)))

    def _document(self, trained: Sequence[_TrainedFunction]) -> dict[str, Any]:
        context = self._context
        metric = context.store.task(context.run.task_id).metric
        return {
            "run": context.run.name,
            "task": context.config.task,
            "metric": metric.name,
            "higher_is_better": metric.higher_is_better,
            "generation": self.generation + 1,
            "at_most": PERIOD * context.config.growth,
            "max_operators": context.config.max_operators,
            "leaderboard": [
                {"function": each.function.name, "value": metric.value(each.score), "diverged": each.score is None}
                for each in trained
            ],
        }

    def _proposed(self) -> list[_NewFunction]:
        """Return the functions that the command has printed, and note the lines that cannot be candidates."""
        lines = [] if self._command is None else self._command.take()
        made, problems = [], []
        for line in lines:
            try:
                made.append(_NewFunction(self._proposal(line), PROPOSAL))
            except (ActivationError, TaskError) as error:
                problems.append(f"{line[:60]!r}: {error}")
        if problems:
            n = f"{len(problems)} of {len(lines)} lines"
            self._context.events.note(f"proposals: {n} were left out, the first {problems[0]}")
        return made

    def _proposal(self, line: str) -> Function:
        """Return the function of a line.

        Raises:
            ActivationError, TaskError: it has none, or one for other roles, or beyond the limits of the run.
        """
        config, function = self._context.config, parse_function(line)
        refuse_other_roles(self._context.roles, getattr(function, "roles", None), line)
        sizes = [function_of(function, role).n_operators for role in self._context.roles or ("",)]
        if max(sizes) > config.max_operators:
            raise ActivationError(f"it has {max(sizes)} operators, and max-operators is {config.max_operators}")
        if function.parameters and config.learned_parameters == "off":
            raise ActivationError("it has learned parameters, and learned-parameters is off")
        return function


def _as_it_is(expression: Expression) -> Expression:
    return expression


def _parsed(name: str) -> Function | None:
    try:
        return parse_function(name)
    except ActivationError:
        return None


def _new_functions(
    made: Sequence[_NewFunction], identities: Sequence[str], found: Evaluated, known: set[str]
) -> list[int]:
    """Return the places of functions that are new, finite and not constant, each once in its shortest spelling.

    Functions with learned parameters are deduplicated later, when few of them are left.
    """
    shortest: dict[str, int] = {}
    usable = np.flatnonzero(found.finite & ~found.constant)
    for i in usable.tolist():
        identity = identities[i] or made[i].expression.text
        before = shortest.get(identity)
        if identity not in known and (before is None or _size(made[i]) < _size(made[before])):
            shortest[identity] = i
    return sorted(shortest.values())


def _size(made: _NewFunction) -> tuple[int, int]:
    return made.expression.n_operators, len(made.expression.text)


def _candidate(made: _NewFunction, fingerprint: str) -> NewCandidate:
    name = str(made.expression)
    return NewCandidate(FunctionRow(fingerprint, name, made.expression.n_operators, (name,)), made.change, made.parents)


def _row_of(function: FunctionRecord) -> FunctionRow:
    return FunctionRow(function.fingerprint, function.name, function.n_operators)
