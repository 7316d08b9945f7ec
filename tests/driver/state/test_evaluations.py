"""What is kept up to date of a run's evaluations is what a look at all of them would tell."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.driver.state.evaluations import FINAL, EvaluationState, RunEvaluations

CHANGES = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.sampled_from(["queued", "running", "done", "diverged", "failed"]),
        st.booleans(),
        st.sampled_from([0.25, 0.5, 0.75]),
    ),
    max_size=40,
)


def evaluation(number, status="queued", *, begun=False, ours=False, score=None):
    origin = ("baseline", "proposal", "suggestion")[number % 3]
    return EvaluationState(number, number // 2, f"f{number // 2}(x)", 0, origin, status, score, begun=begun, ours=ours)


def changed(number, status, flag, score):
    known = {"begun": flag, "ours": flag, "score": score if status == "done" else None}
    return replace(evaluation(number), status=status, reused=flag, stopped_early="early" if flag else None, **known)


@given(CHANGES)
def test_every_answer_is_that_of_a_look_at_all(changes):
    kept, plain, ended = RunEvaluations(), {}, []
    for change in changes:
        entry = changed(*change)
        kept.put(entry)
        before = plain.get(entry.evaluation_id)
        if entry.status in ("done", "diverged") and not (before and before.status in ("done", "diverged")):
            ended.append(entry.evaluation_id)
        plain[entry.evaluation_id] = entry
    entries = list(plain.values())
    final = [e for e in entries if e.status in FINAL]
    assert list(kept.values()) == entries
    assert kept.n() == len(final)
    assert kept.n(but="baseline") == len([e for e in final if e.origin != "baseline"])
    assert kept.n(status={"failed"}) == len([e for e in entries if e.status == "failed"])
    assert kept.n_of("suggestion") == len([e for e in entries if e.origin == "suggestion"])
    assert kept.asked_for == {e.function_id for e in entries}
    assert {e.evaluation_id for e in kept.open} == {
        e.evaluation_id for e in entries if e.status in ("queued", "running")
    }
    assert kept.n_open == len(kept.open)
    assert {e.evaluation_id for e in kept.elsewhere} == {
        e.evaluation_id for e in entries if e.status == "running" and not e.ours
    }
    assert kept.n_reused == sum(e.reused for e in entries)
    assert kept.n_stopped_early == sum(e.stopped_early is not None for e in entries if e.status == "done")
    assert kept.best == max((e for e in final if e.score is not None), key=lambda e: e.score, default=None)
    queued = [e for e in entries if e.status == "queued"]
    in_order = sorted(queued, key=lambda e: (not e.begun, entries.index(e)))
    same = list(takewhile(lambda e: e.origin == in_order[0].origin, in_order))
    for most in (1, 3, 100, 1):
        assert kept.next_queued(most) == same[:most]
    assert kept.ended() == [plain[number] for number in ended]


@given(CHANGES, st.integers(2, 3))
def test_means_over_seeds_are_those_of_a_look_at_all(changes, n_seeds):
    kept, plain = RunEvaluations(leader_seeds=n_seeds), {}
    for change in changes:
        kept.put(changed(*change))
        plain[change[0]] = changed(*change)
    of_function = {e.function_id: [x for x in plain.values() if x.function_id == e.function_id] for e in plain.values()}
    means = {}
    for number, entries in of_function.items():
        scores = [e.score for e in entries if e.status in FINAL]
        whole = bool(scores) and None not in scores
        means[number] = sum(scores) / len(scores) if whole else None
        assert kept.score_of(number) == means[number]
        assert kept.n_seeds_of(number) == max(1, len(scores))
    best = max((n for n in means if means[n] is not None), key=lambda n: means[n], default=None)
    assert (kept.best and (kept.best.function_id, kept.best.score)) == (best if best is None else (best, means[best]))
    assert kept.best is None or kept.best.evaluation_id == of_function[best][0].evaluation_id
    lacking = [
        number
        for number, entries in of_function.items()
        if means[number] is not None and len(entries) < n_seeds and all(e.status in (*FINAL, "failed") for e in entries)
    ]
    expected = max(lacking, key=lambda number: means[number], default=None)
    found = kept.best_lacking_seeds()
    assert (found and found.function_id) == expected
    assert kept.is_best_complete() == (
        best is not None and sum(e.status == "done" for e in of_function[best]) >= n_seeds
    )


def test_a_failed_training_with_the_second_seed_does_not_count_as_a_seed():
    first, second = evaluation(2, "done", score=0.5), evaluation(3, "failed")
    kept = RunEvaluations((first, replace(second, seed=1)), leader_seeds=2)
    assert not kept.is_best_complete()
    assert kept.best_lacking_seeds() is None, "its attempts are used up, and a third seed is one that judges"
    kept.put(replace(second, seed=1, status="done", score=0.25))
    assert kept.is_best_complete()


def test_with_one_seed_nothing_lacks_seeds():
    kept = RunEvaluations((evaluation(1, "done", score=0.5),))
    assert kept.best_lacking_seeds() is None
    assert kept.is_best_complete()
    assert not RunEvaluations().is_best_complete()


def test_the_queue_gives_what_was_begun_first_and_then_the_order_of_asking():
    kept = RunEvaluations(tuple(evaluation(number) for number in (5, 3, 4)))
    kept.put(evaluation(4, begun=True))
    order = []
    while queued := kept.next_queued(1):
        order += [each.evaluation_id for each in queued]
        kept.put(replace(queued[0], status="running"))
    assert order == [4, 5, 3]


def test_results_come_once_and_again_after_a_new_training():
    kept = RunEvaluations((evaluation(1, "done", score=0.5), evaluation(2)))
    assert [e.evaluation_id for e in kept.ended()] == [1]
    kept.put(evaluation(2, "done", score=0.6))
    kept.put(evaluation(1, "running"))
    kept.put(evaluation(1, "done", score=0.4))
    assert [(e.evaluation_id, e.score) for e in kept.ended(after=1)] == [(2, 0.6), (1, 0.4)]
    assert kept.best.evaluation_id == 2
