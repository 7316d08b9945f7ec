"""What every verb promises, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from store_reading import attempts_of, claim_next

from aquasurf_ray.store import (
    BadRecord,
    EmbeddingRecord,
    EpochRecord,
    EvaluationRequest,
    EvaluationResult,
    FunctionRow,
    LeaseLost,
    Neighbor,
    NewRun,
    RecordNotFound,
    RunExists,
    RunNotFound,
    SpectrumRecord,
    SuggestionRecord,
    this_process,
)

DONE = EvaluationResult("done", score=0.9, val_accuracy=0.9, val_loss=0.3, seconds=1.5)
DIVERGED = EvaluationResult("diverged", reason="loss is NaN at step 3", train_loss=math.nan)
REASON = SuggestionRecord(0.8, 1, (Neighbor(1, 0.25, 0.7), Neighbor(2, 0.5, None)), "embedding-1")


def kinds(world, run_id):
    return [event.kind for event in world.store.events(run_id)]


class TestTasksAndFunctions:
    def test_a_task_is_known_by_its_digest(self, world):
        again = world.store.add_task("digits", "1", "task-digest", {"epochs": 99})
        assert again == world.task_id
        other = world.store.add_task("digits", "2", "other", {})
        assert other != world.task_id
        assert world.store.task(world.task_id).spec == {"epochs": 30}
        assert [world.store.task(number).version for number in (world.task_id, other)] == ["1", "2"]

    def test_a_known_task_takes_over_the_range_of_its_metric_and_nothing_else(self, world):
        def stored(**objective):
            number = world.store.add_task("t", "1", "d", {"epochs": 1, "objective": {"metric": "f1", **objective}})
            return world.store.task(number)

        assert stored(low=None).metric.range == (-math.inf, math.inf)
        assert stored(low=0.0, high=1.0, metric="other").spec == {
            "epochs": 1,
            "objective": {"metric": "f1", "low": 0.0, "high": 1.0},
        }
        assert stored(high=1.0).metric.range == (-math.inf, 1.0)
        assert stored(high=1.0).metric.name == "f1"

    def test_an_unknown_task_is_named(self, world):
        with pytest.raises(RecordNotFound, match="4711"):
            world.store.task(4711)

    def test_functions_keep_their_first_name_and_collect_aliases(self, world):
        rows = [FunctionRow("fingerprint0", "g(x)", 5, ("h(x)",)), FunctionRow("new", "n(x)", 2)]
        ids = world.store.add_functions(rows)
        assert ids[0] == world.functions[0]
        assert world.store.find_function("fingerprint0").name == "f0(x)"
        assert world.store.find_function("h(x)").id == world.store.find_function("g(x)").id == ids[0]
        assert world.store.find_function("f0(x)").n_operators == 1
        assert world.store.find_function("nothing") is None
        assert world.store.functions([ids[1], 4711]).keys() == {ids[1]}

    def test_of_two_functions_of_one_name_that_of_the_run_comes_first(self, world):
        (twin,) = world.store.add_functions([FunctionRow("twin", "f0(x)", 1, ("t(x)",))])
        task = world.store.add_task("t", "1", "d", {})
        run = world.store.create_run(NewRun("with twin", "search", task, {}, "twin", 0, 4, None, "0.1.0"), [twin])
        assert world.store.find_function("f0(x)").id == world.functions[0]
        assert world.store.find_function("f0(x)", run.id).id == world.store.find_function("t(x)", run.id).id == twin
        assert world.store.find_function("f1(x)", run.id).id == world.functions[1], "no candidate of the run"
        named = [(name, function.id) for name, function in world.store.functions_named(["f0(x)", "t(x)", "none"])]
        assert sorted(named) == sorted([("f0(x)", world.functions[0]), ("f0(x)", twin), ("t(x)", twin)])

    def test_numbers_come_in_the_order_asked_for_also_with_repeats(self, world):
        rows = [FunctionRow(f"fingerprint{i}", f"f{i}(x)", 1) for i in (3, 1, 3)]
        assert world.store.add_functions(rows) == [world.functions[3], world.functions[1], world.functions[3]]

    @pytest.mark.parametrize("name", ["", "  ", "x" * 2001])
    def test_names_that_no_index_takes_are_refused(self, world, name):
        with pytest.raises(BadRecord, match=f"{len(name)} characters"):
            world.store.add_functions([FunctionRow("new", name, 1)])

    def test_the_longest_name_that_is_allowed_can_be_stored(self, world):
        name = "".join(chr(33 + (i * i * 7919 + i * 31) % 90) for i in range(2000))  # does not compress
        (number,) = world.store.add_functions([FunctionRow("new", name, 1, (name[::-1],))])
        assert world.store.find_function(name[::-1]).id == number

    @pytest.mark.parametrize("text", ["a\x00b", "\ud800", "'; DROP TABLE runs; --", "\U0001f600 é"])
    def test_hostile_text_is_inert(self, world, text):
        world.store.add_functions([FunctionRow("new", f"{text}(x)", 1)])
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        world.store.record_failure(lease, claim.evaluation_id, text, final=True)
        kept = text.replace("\x00", "\ufffd").replace("\ud800", "?")
        assert world.store.evaluation(claim.evaluation_id).error == kept
        assert world.store.events(lease.run_id)[-1].data["error"] == text.replace("\x00", "\ufffd")
        assert len(world.store.runs()) == 1


class TestRuns:
    def test_a_run_is_created_once(self, world):
        first, again = world.run(), world.run()
        assert (first.created, again.created) == (True, False)
        assert first.id == again.id
        assert [f.id for f in world.store.candidates(first.id)] == world.functions

    def test_another_configuration_is_refused_and_what_differs_is_named(self, world):
        world.run()
        other = NewRun("run", "search", world.task_id, {"space": "four-node", "k": 5}, "d2", 0, 40, None, "0.1.0")
        with pytest.raises(RunExists) as caught:
            world.store.create_run(other)
        assert "space 'three-node' -> 'four-node'" in str(caught.value)
        assert "k None -> 5" in str(caught.value)

    def test_only_identity_keys_are_named_where_they_are_given(self, world):
        world.run()
        config = {"space": "four-node", "workers": 3}
        other = NewRun("run", "search", world.task_id, config, "d2", 0, 40, None, "0.1.0", identity_keys=("space",))
        with pytest.raises(RunExists, match="four-node") as caught:
            world.store.create_run(other)
        assert "workers" not in str(caught.value)

    def test_a_run_that_is_not_there_gets_close_names(self, world):
        world.run("digits-1")
        with pytest.raises(RunNotFound, match=r"did you mean 'digits-1'\?.*aquasurf status"):
            world.store.run("digit-1")

    def test_times_are_utc_and_now(self, world):
        run = world.run()
        assert run.created_at.tzinfo == UTC
        assert abs(datetime.now(UTC) - run.created_at) < timedelta(minutes=1)

    def test_a_budget_can_be_raised(self, world):
        lease = world.lease()
        world.store.set_budget(lease, 80)
        assert world.store.run("run").budget == 80
        assert world.store.events(lease.run_id)[-1].data == {"before": 40, "after": 80}
        with pytest.raises(BadRecord, match="-1"):
            world.store.set_budget(lease, -1)

    def test_events_are_numbered_without_gaps_and_can_be_followed(self, world):
        lease = world.lease()
        for function in world.functions:
            world.store.claim(lease, function, 0, "baseline")
        events = world.store.events(lease.run_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert world.store.events(lease.run_id, after=3) == events[3:]

    def test_notes_are_kept_with_their_run_also_while_a_driver_writes(self, world):
        lease = world.lease()
        other = world.store.create_run(NewRun("other", "search", world.task_id, {}, "o", 0, 1, None, "0.1.0"))
        world.store.add_note(lease.run_id, " one ")
        world.store.set_budget(lease, 99)
        world.store.add_note(other.id, "of another run")
        world.store.add_note(lease.run_id, "two")
        assert [note.text for note in world.store.notes(lease.run_id)] == ["one", "two"]
        assert [note.run_id for note in world.store.notes()] == [lease.run_id, other.id, lease.run_id]
        assert [event.seq for event in world.store.events(lease.run_id)][-3:] == [
            len(world.store.events(lease.run_id)) - back for back in (2, 1, 0)
        ]
        for wrong in ("", "  ", "x" * 2001):
            with pytest.raises(BadRecord, match="note: give a text of 1 to 2000 characters, got"):
                world.store.add_note(lease.run_id, wrong)
        with pytest.raises(RunNotFound, match="4711"):
            world.store.add_note(4711, "on nothing")


class TestEvaluations:
    def test_from_claim_to_result(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 7, "suggestion", REASON)
        assert (claim.state, claim.record.status, claim.function_id) == ("claimed", "running", world.functions[0])
        assert world.store.start(lease, claim.evaluation_id, "worker 1", "node a")
        assert world.store.record_result(lease, claim.evaluation_id, DONE)
        record = world.store.evaluation(claim.evaluation_id)
        assert (record.status, record.score, record.val_loss, record.seed) == ("done", 0.9, 0.3, 7)
        assert (record.claimed_by, record.code_version) == (lease.run_id, "0.1.0")
        assert record.created_at <= record.started_at <= record.finished_at
        (attempt,) = attempts_of(world.store, claim.evaluation_id)
        assert (attempt.worker, attempt.node, attempt.outcome, attempt.number) == ("worker 1", "node a", "done", 1)
        assert kinds(world, lease.run_id) == ["created", "lease_taken", "claimed", "started", "result"]

    def test_the_log_holds_the_whole_suggestion(self, world):
        lease = world.lease()
        world.store.claim(lease, world.functions[0], 0, "suggestion", REASON)
        data = world.store.events(lease.run_id)[-1].data
        assert data["suggestion"]["predicted_score"] == 0.8
        assert data["suggestion"]["neighbors"][1] == {
            "function_id": 2,
            "distance": 0.5,
            "score": None,
            "recipe_change": "",
        }

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, None])
    def test_losses_come_back_as_they_were(self, world, value):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        epochs = (EpochRecord(1, train_loss=value), EpochRecord(2, train_loss=0.5, learning_rate=value))
        result = EvaluationResult("done", score=0.5, train_loss=value, val_loss=value, epochs=epochs)
        assert world.store.record_result(lease, claim.evaluation_id, result)
        record = world.store.evaluation(claim.evaluation_id)
        assert repr(record.train_loss) == repr(record.val_loss) == repr(value)
        assert repr(world.store.curve(claim.evaluation_id)) == repr(epochs)
        assert record.epochs == 2

    def test_numpy_scalars_are_stored_as_numbers(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        result = EvaluationResult("done", score=np.float32(0.5), train_loss=np.float64("nan"))
        assert world.store.record_result(lease, claim.evaluation_id, result)
        assert world.store.evaluation(claim.evaluation_id).score == 0.5

    @pytest.mark.parametrize(
        "result",
        [
            EvaluationResult("done"),
            EvaluationResult("done", score=math.nan),
            EvaluationResult("done", score=math.inf),
            EvaluationResult("diverged", score=0.1),
            EvaluationResult("done", score=0.1, epochs=(EpochRecord(1), EpochRecord(1))),
        ],
    )
    def test_results_that_make_no_sense_are_refused(self, world, result):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        with pytest.raises(BadRecord):
            world.store.record_result(lease, claim.evaluation_id, result)
        assert world.store.evaluation(claim.evaluation_id).status == "running"

    def test_the_first_result_stays(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        assert world.store.record_result(lease, claim.evaluation_id, DONE)
        late = EvaluationResult("done", score=0.1, epochs=(EpochRecord(1),))
        assert not world.store.record_result(lease, claim.evaluation_id, late)
        assert world.store.evaluation(claim.evaluation_id).score == 0.9
        assert world.store.curve(claim.evaluation_id) == ()

    @pytest.mark.parametrize("result", [DONE, DIVERGED])
    def test_recording_the_same_result_again_changes_nothing(self, world, result):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        assert world.store.record_result(lease, claim.evaluation_id, result)
        before = kinds(world, lease.run_id)
        assert world.store.record_result(lease, claim.evaluation_id, result)
        assert kinds(world, lease.run_id) == before

    def test_claiming_twice_is_one_claim(self, world):
        lease = world.lease()
        first = world.store.claim(lease, world.functions[0], 0, "baseline")
        assert world.store.claim(lease, world.functions[0], 0, "baseline") == first
        assert len(world.store.snapshot(lease.run_id).evaluations) == 1

    def test_a_result_is_reused_by_another_run(self, world):
        first = world.lease("first")
        for function, result in zip(world.functions, (DONE, DIVERGED), strict=False):
            claim = world.store.claim(first, function, 0, "baseline")
            world.store.record_result(first, claim.evaluation_id, result)
        second = world.lease("second")
        claims = [world.store.claim(second, function, 0, "suggestion", REASON) for function in world.functions[:2]]
        assert [claim.state for claim in claims] == ["reused", "reused"]
        assert [claim.record.score for claim in claims] == [0.9, None]
        snapshot = world.store.snapshot(second.run_id)
        assert [item.reused for item in snapshot.evaluations] == [True, True]
        assert snapshot.evaluations[0].suggestion == REASON
        assert kinds(world, second.run_id)[-2:] == ["reused", "reused"]

    def test_other_seeds_and_tasks_share_nothing(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        world.store.record_result(lease, claim.evaluation_id, DONE)
        assert world.store.claim(lease, world.functions[0], 1, "baseline").state == "claimed"

    def test_changes_of_the_recipe_are_evaluations_of_their_own(self, world):
        lease, function = world.lease(), world.functions[0]
        changes = ("", "learning_rate*0.5", "weight_decay=0.001")
        claims = [world.store.claim(lease, function, 0, "suggestion", recipe_change=change) for change in changes]
        assert len({claim.evaluation_id for claim in claims}) == 3
        assert [claim.record.recipe_change for claim in claims] == list(changes)
        again = world.store.claim(lease, function, 0, "suggestion", recipe_change=changes[1])
        assert again.evaluation_id == claims[1].evaluation_id
        curve = (EpochRecord(1, val_score=0.25),)
        results = {c.evaluation_id: replace(DONE, score=0.5 + i, epochs=curve) for i, c in enumerate(claims)}
        assert all(world.store.record_results(lease, results).values())
        (proposed,) = world.store.propose(lease.run_id, [function], 0, recipe_change=changes[2])
        assert (proposed.evaluation_id, proposed.status, proposed.added) == (claims[2].evaluation_id, "done", False)
        (new,) = world.store.propose(lease.run_id, [function], 1, recipe_change=changes[2])
        assert world.store.evaluation(new.evaluation_id).recipe_change == changes[2]
        rows = world.store.leaderboard(run_id=lease.run_id)
        assert [(row.score, row.recipe_change) for row in rows] == [(2.5, changes[2]), (1.5, changes[1]), (0.5, "")]
        # Rules and means over seeds compare trainings of one recipe.
        other = world.lease("other")
        claim = world.store.claim(other, function, 3, "proposal")
        world.store.record_result(other, claim.evaluation_id, DONE)
        assert world.store.independent_scores(world.task_id, [function]) == {function: {3: DONE.score}}
        assert world.store.early_scores(world.task_id, 1) == [(0.25, 0.5)]
        assert [
            event.data.get("recipe_change", "") for event in world.store.events(lease.run_id) if event.kind == "claimed"
        ] == [*changes, changes[1]]

    def test_what_another_live_run_trains_is_taken_and_observed_when_it_is_done(self, world):
        first, second = world.lease("first"), world.lease("second")
        claim = world.store.claim(first, world.functions[0], 0, "baseline")
        taken = world.store.claim(second, world.functions[0], 0, "baseline")
        assert (taken.state, taken.evaluation_id) == ("taken", claim.evaluation_id)
        assert world.store.observe(second, taken.evaluation_id) is None
        assert not world.store.start(second, taken.evaluation_id)
        world.store.record_result(first, claim.evaluation_id, DONE)
        assert world.store.observe(second, taken.evaluation_id).score == 0.9
        assert world.store.observe(second, taken.evaluation_id).score == 0.9
        assert kinds(world, second.run_id) == ["created", "lease_taken", "taken", "observed"]
        assert world.store.snapshot(second.run_id).evaluations[0].reused

    def test_what_a_stopped_run_left_can_be_claimed_by_another(self, world):
        first, second = world.lease("first"), world.lease("second")
        claim = world.store.claim(first, world.functions[0], 0, "baseline")
        world.store.release_lease(first, "interrupted")
        assert world.store.claim(second, world.functions[0], 0, "baseline").state == "claimed"
        again = world.lease("first")
        assert claim_next(world.store, again) is None
        assert world.store.claim(again, world.functions[0], 0, "baseline").state == "taken"
        assert world.store.evaluation(claim.evaluation_id).claimed_by == second.run_id

    def test_a_machines_fault_queues_again_and_counts(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        world.store.start(lease, claim.evaluation_id, "w")
        assert world.store.record_failure(lease, claim.evaluation_id, "worker died", final=False)
        assert not world.store.record_failure(lease, claim.evaluation_id, "worker died", final=False)
        queued = claim_next(world.store, lease)
        assert (queued.evaluation_id, queued.record.attempts, queued.origin) == (claim.evaluation_id, 1, "baseline")
        world.store.start(lease, claim.evaluation_id, "w")
        assert world.store.record_failure(lease, claim.evaluation_id, "out of memory", final=True)
        record = world.store.evaluation(claim.evaluation_id)
        assert (record.status, record.attempts, record.error) == ("failed", 2, "out of memory")
        attempts = attempts_of(world.store, claim.evaluation_id)
        assert [(a.number, a.outcome, a.error) for a in attempts] == [
            (1, "failed", "worker died"),
            (2, "failed", "out of memory"),
        ]

    def test_a_failed_evaluation_is_parked_for_this_run_and_open_to_others(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        world.store.record_failure(lease, claim.evaluation_id, "out of memory", final=True)
        assert world.store.claim(lease, world.functions[0], 0, "baseline").state == "failed"
        other = world.store.claim(world.lease("other"), world.functions[0], 0, "baseline")
        assert (other.state, other.record.attempts, other.record.error) == ("claimed", 0, None)

    def test_a_failed_evaluation_can_be_retried_on_demand(self, world):
        lease = world.lease()
        claim = world.store.claim(lease, world.functions[0], 0, "baseline")
        world.store.record_failure(lease, claim.evaluation_id, "out of memory", final=True)
        again = world.store.claim(lease, world.functions[0], 0, "baseline", retry_failed=True)
        assert (again.state, again.record.status) == ("claimed", "running")

    def test_a_late_result_of_a_requeued_or_parked_evaluation_is_kept(self, world):
        lease = world.lease()
        for function, final in zip(world.functions, (False, True), strict=False):
            claim = world.store.claim(lease, function, 0, "baseline")
            world.store.record_failure(lease, claim.evaluation_id, "no answer", final=final)
            assert world.store.record_result(lease, claim.evaluation_id, DONE)
            record = world.store.evaluation(claim.evaluation_id)
            assert (record.status, record.error) == ("done", None)
        assert claim_next(world.store, lease) is None

    def test_some_evaluations_are_asked_about_together(self, world):
        first, second, f = world.lease("first"), world.lease("second"), world.functions
        one, two = (world.store.claim(first, f[i], i, "proposal").evaluation_id for i in (0, 1))
        (three,) = (p.evaluation_id for p in world.store.propose(second.run_id, [f[2]], 0))
        world.store.record_result(first, one, DONE)
        assert world.store.evaluation_statuses([three, one, two, 4711]) == {
            one: "done",
            two: "running",
            three: "queued",
        }
        assert world.store.evaluation_statuses([]) == {}
        assert [w.evaluation.id for w in world.store.requests(first.run_id, {two, one, three})] == [one, two]
        assert world.store.requests(first.run_id, []) == []

    def test_independent_scores_are_those_of_whole_trainings_of_all_runs_that_selected_nothing(self, world):
        first, second, f = world.lease("first"), world.lease("second"), world.functions
        results = [
            (first, 0, DONE),
            (second, 2, DIVERGED),
            (second, 1, replace(DONE, stopped_early="below the median")),
        ]
        for lease, seed, result in results:
            claim = world.store.claim(lease, f[0], seed, "suggestion")
            world.store.record_result(lease, claim.evaluation_id, result)
        world.store.claim(first, f[1], 0, "suggestion")
        config = {"first_seed": 3, "seeds": 2, "rate_seeds": 1}
        new = NewRun("judged", "confirm", world.task_id, config, "judged", 0, 3, None, "0.1.0")
        judging = world.store.acquire_lease(world.store.create_run(new, f[:1]).id, this_process())
        for seed in (3, 4, 5):  # the last one chose the recipe
            claim = world.store.claim(judging, f[0], seed, "proposal")
            world.store.record_result(judging, claim.evaluation_id, DONE)
        assert world.store.independent_scores(world.task_id, f[:3]) == {f[0]: {2: None, 3: DONE.score, 4: DONE.score}}

    def test_an_unknown_evaluation_is_named(self, world):
        lease = world.lease()
        with pytest.raises(RecordNotFound, match="4711"):
            world.store.record_result(lease, 4711, DONE)


class TestProposals:
    def test_proposals_come_in_order_after_what_was_interrupted(self, world):
        run, f = world.run(), world.functions
        proposals = world.store.propose(run.id, [f[3], f[1], f[3]], 0)
        assert [(p.function_id, p.status, p.added) for p in proposals] == [
            (f[3], "queued", True),
            (f[1], "queued", True),
        ]
        lease = world.lease()
        claim = world.store.claim(lease, f[0], 0, "baseline")
        world.store.record_failure(lease, claim.evaluation_id, "worker died", final=False)
        order = [claim_next(world.store, lease) for _ in range(4)]
        assert [c.function_id for c in order[:3]] == [f[0], f[3], f[1]]
        assert order[3] is None
        assert [c.origin for c in order[:3]] == ["baseline", "proposal", "proposal"]

    def test_proposing_what_is_known_says_so(self, world):
        lease, f = world.lease(), world.functions
        done = world.store.claim(lease, f[0], 0, "baseline")
        world.store.record_result(lease, done.evaluation_id, DONE)
        failed = world.store.claim(lease, f[1], 0, "baseline")
        world.store.record_failure(lease, failed.evaluation_id, "out of memory", final=True)
        other = world.run("other")
        statuses = [p.status for p in world.store.propose(other.id, f[:3], 0)]
        assert statuses == ["done", "queued", "queued"]
        again = world.store.propose(other.id, f[:3], 0)
        assert [p.added for p in again] == [False] * 3
        assert [item.reused for item in world.store.snapshot(other.id).evaluations] == [True, False, False]

    def test_proposing_to_nobody_or_nothing_is_refused(self, world):
        with pytest.raises(RunNotFound, match="4711"):
            world.store.propose(4711, world.functions[:1], 0)
        with pytest.raises(RecordNotFound, match="4711"):
            world.store.propose(world.run().id, [4711], 0)

    @pytest.mark.slow
    def test_many_proposals_in_one_call(self, world):
        rows = [FunctionRow(f"many{i}", f"many{i}(x)", 1) for i in range(1200)]
        run = world.run()
        assert len(world.store.propose(run.id, world.store.add_functions(rows), 0)) == 1200
        assert world.store.status(run.id).by_status == {"queued": 1200}


class TestSpectraAndEmbeddings:
    def test_spectra_are_shared_and_the_first_stays(self, world):
        first, second = world.lease("first"), world.lease("second")
        one = SpectrumRecord(world.functions[0], "sampled", 0, "done", b"\x00\xff" * 50, seconds=0.5)
        bad = SpectrumRecord(world.functions[1], "sampled", 0, "diverged", reason="overflow in layer conv1")
        assert world.store.record_spectra(first, [one, bad]) == 2
        assert not world.store.record_spectra(second, [SpectrumRecord(one.function_id, "sampled", 0, "done", b"x")])
        assert world.store.spectra(world.task_id, world.functions, "sampled", 0) == {
            one.function_id: one,
            bad.function_id: bad,
        }
        assert world.store.spectra(world.task_id, world.functions, "empirical", 0) == {}
        assert world.store.events(first.run_id)[-1].data == {"function_ids": [one.function_id, bad.function_id]}

    def test_the_first_coverage_of_a_run_is_in_its_log(self, world):
        lease, other = world.lease("covered"), world.lease("older")
        records = [SpectrumRecord(number, "sampled", 0, "done", b"x") for number in world.functions[:2]]
        world.store.record_spectra(lease, records[:1], "3 of 3 matrices")
        world.store.record_spectra(lease, records[1:])
        assert world.store.spectrum_coverage(lease.run_id) == "3 of 3 matrices"
        assert world.store.spectrum_coverage(other.run_id) is None

    def test_the_roles_of_layers_are_those_that_a_run_of_the_task_logged_first(self, world):
        lease, other = world.lease("of-roles"), world.lease("later")
        records = [SpectrumRecord(number, "sampled", 0, "done", b"x") for number in world.functions[:2]]
        assert world.store.layer_roles(world.task_id) == {}
        world.store.record_spectra(lease, records[:1])
        world.store.record_spectra(other, records[1:], "3 of 3 matrices", {"0": "early", "2": ""})
        assert world.store.layer_roles(world.task_id) == {"0": "early", "2": ""}

    def test_a_spectrum_needs_its_feature(self, world):
        lease = world.lease()
        with pytest.raises(BadRecord, match="must have a feature"):
            world.store.record_spectra(lease, [SpectrumRecord(world.functions[0], "sampled", 0, "done")])

    def test_embeddings_come_back_bit_for_bit(self, world):
        lease = world.lease()
        coordinates = np.array([[0.1, math.nan], [math.inf, -0.0]], dtype=np.float32)
        saved = EmbeddingRecord("v1", world.task_id, {"k": 3}, np.array([5, 2**40]), coordinates)
        assert world.store.save_embedding(lease, saved)
        assert not world.store.save_embedding(lease, saved)
        found = world.store.embedding("v1")
        assert found.coordinates.tobytes() == coordinates.tobytes()
        assert found.function_ids.tolist() == [5, 2**40]
        assert found.config == {"k": 3}
        assert world.store.embedding("v2") is None

    def test_arrays_that_do_not_belong_together_are_refused(self, world):
        lease = world.lease()
        bad = EmbeddingRecord("v1", world.task_id, {}, np.arange(3), np.zeros((2, 2), dtype=np.float32))
        with pytest.raises(BadRecord, match=r"\(3, 2\), got \(2, 2\)"):
            world.store.save_embedding(lease, bad)


class TestReading:
    @pytest.fixture
    def finished(self, world):
        """Baselines at 0.5 and 0.7, suggestions at 0.9 and diverged, one failed, one running."""
        lease, f = world.lease(), world.functions
        for function, origin, score in ((f[0], "baseline", 0.5), (f[1], "baseline", 0.7), (f[2], "suggestion", 0.9)):
            claim = world.store.claim(lease, function, 0, origin, REASON if origin == "suggestion" else None)
            world.store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=score))
        claim = world.store.claim(lease, f[3], 0, "suggestion", REASON)
        world.store.record_result(lease, claim.evaluation_id, DIVERGED)
        claim = world.store.claim(lease, f[4], 0, "suggestion")
        world.store.record_failure(lease, claim.evaluation_id, "out of memory", final=True)
        world.store.claim(lease, f[5], 0, "suggestion")
        spectra = [SpectrumRecord(f[i], "sampled", 0, "done", b"feature") for i in range(3)]
        world.store.record_spectra(lease, [*spectra, SpectrumRecord(f[3], "sampled", 0, "diverged", reason="inf")])
        return lease

    def test_a_leaderboard_ranks_by_score_and_flags_baselines(self, world, finished):
        rows = world.store.leaderboard(run_id=finished.run_id)
        assert [(row.rank, row.function, row.score, row.baseline) for row in rows] == [
            (1, "f2(x)", 0.9, False),
            (2, "f1(x)", 0.7, True),
            (3, "f0(x)", 0.5, True),
        ]
        assert world.store.leaderboard(task_id=world.task_id, n=1) == rows[:1]

    def test_a_leaderboard_is_of_one_thing(self, world):
        with pytest.raises(BadRecord, match="run_id or task_id"):
            world.store.leaderboard()

    def test_status_counts(self, world, finished):
        status = world.store.status(finished.run_id)
        assert status.by_status == {"done": 3, "diverged": 1, "failed": 1, "running": 1}
        assert status.by_origin["baseline", "done"] == 2
        assert (status.finished, status.reused, status.n_candidates) == (4, 0, 8)
        assert (status.spectra_done, status.spectra_diverged) == (3, 1)
        assert status.best.function == "f2(x)"
        assert status.task.name == "digits"
        assert [item.evaluation.error for item in status.failures] == ["out of memory"]

    def test_status_of_a_new_run(self, world):
        status = world.store.status(world.run().id)
        assert (status.finished, status.best, status.by_status) == (0, None, {})

    def test_a_snapshot_is_in_the_order_of_the_requests(self, world, finished):
        snapshot = world.store.snapshot(finished.run_id)
        assert [item.function for item in snapshot.evaluations] == [f"f{i}(x)" for i in range(6)]
        assert [item.position for item in snapshot.evaluations] == list(range(6))
        assert snapshot.evaluations[2].suggestion == REASON
        assert snapshot.evaluations[0].suggestion is None
        assert [function.id for function in snapshot.candidates] == world.functions

    def test_history_of_a_function(self, world, finished):
        other = world.lease("other")
        world.store.claim(other, world.functions[2], 0, "suggestion")
        history = world.store.function_history("f2(x)")
        assert [(item.run, item.task, item.request.reused) for item in history.evaluations] == [
            ("run", "digits", False),
            ("other", "digits", True),
        ]
        assert history.evaluations[0].request.suggestion == REASON
        assert [(s.task, s.n_bytes) for s in history.spectra] == [("digits", 7)]
        assert history.candidate_of == ("run", "other")
        with pytest.raises(RecordNotFound, match="unheard"):
            world.store.function_history("unheard(x)")


def test_a_lease_that_was_given_back_writes_nothing(world):
    lease = world.lease()
    world.store.release_lease(lease, "finished")
    writes = [
        lambda: world.store.claim(lease, world.functions[0], 0, "baseline"),
        lambda: world.store.claim_all(lease, [EvaluationRequest(world.functions[0], 0, "baseline")]),
        lambda: world.store.start(lease, 1),
        lambda: world.store.record_result(lease, 1, DONE),
        lambda: world.store.record_failure(lease, 1, "x", final=True),
        lambda: world.store.record_spectra(lease, []),
        lambda: world.store.record_costs(lease, []),
        lambda: world.store.set_budget(lease, 1),
        lambda: world.store.renew_lease(lease),
        lambda: world.store.save_embedding(
            lease, EmbeddingRecord("v", world.task_id, {}, np.zeros(0), np.zeros((0, 2)))
        ),
    ]
    before = world.store.events(lease.run_id)
    for write in writes:
        with pytest.raises(LeaseLost, match="run 'run'"):
            write()
    assert world.store.events(lease.run_id) == before
    assert world.store.run("run").status == "finished"
