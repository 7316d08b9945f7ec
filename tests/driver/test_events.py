"""Events reach every callback in order, whichever thread emits them, and a broken callback ends nothing."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import pytest
from recorder import Recorder

from aquasurf_ray.driver import events as room
from aquasurf_ray.driver.events import EvaluationEnded, Event, Events, LoggedError, LoggedWarning, Note, WorkerGone


class Broken:
    """Raises at each event, and counts them."""

    def __init__(self):
        self.n = 0

    def on_event(self, event):
        self.n += 1
        raise ConnectionError("no route\nto host")


def test_a_callback_that_raises_is_noted_once_and_is_given_the_next_events():
    broken, recorder = Broken(), Recorder()
    events = Events([broken, recorder])
    events.note("one")
    events.note("two")
    assert recorder.notes == [
        "one",
        "callback Broken failed, the run continues: ConnectionError: no route to host",
        "two",
    ]
    assert broken.n == 3


def test_an_error_of_the_drivers_own_callback_ends_the_run():
    events = Events()
    with events.subscribed(Broken()), pytest.raises(ConnectionError):
        events.note("one")
    events.note("after it")


def test_events_that_a_callback_emits_follow_the_one_that_it_is_given():
    class Echo:
        def on_event(self, event):
            if event == Note("one"):
                events.note("echo")

    recorder = Recorder()
    events = Events([Echo(), recorder])
    events.note("one")
    assert recorder.notes == ["one", "echo"]


def test_events_of_other_threads_are_delivered_in_the_drivers():
    threads = []

    class Where:
        def on_event(self, event):
            threads.append(threading.get_ident())

    recorder = Recorder()
    events = Events([Where(), recorder])
    other = threading.Thread(target=lambda: events.note("from a thread"))
    other.start()
    other.join()
    assert recorder.notes == []
    events.note("from the driver")
    assert recorder.notes == ["from a thread", "from the driver"]
    assert set(threads) == {threading.get_ident()}


def test_warnings_of_our_own_loggers_become_events():
    recorder = Recorder()
    events = Events([recorder])
    with events.with_warnings():
        logging.getLogger("aquasurf_ray.store").warning("the database is %s", "locked")
        logging.getLogger("aquasurf_ray.store").error("gone")
        logging.getLogger("aquasurf_ray.store").info("not this")
        logging.getLogger("another").warning("nor this")
    logging.getLogger("aquasurf_ray.store").warning("after the end")
    assert recorder.events == [
        LoggedWarning("aquasurf_ray.store", "the database is locked"),
        LoggedError("aquasurf_ray.store", "gone"),
    ]


def test_every_event_is_documented_and_has_a_name():
    kinds = [each for each in vars(room).values() if isinstance(each, type) and issubclass(each, Event)]
    kinds.remove(Event)
    page = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    assert {kind.__name__ for kind in kinds} == set(re.findall(r"`([A-Z]\w+)`", page.partition("## Events")[2]))
    assert all(isinstance(kind.name, str) and f"`{kind.name}`" in page for kind in kinds if kind.logged)


def test_the_log_gets_plain_fields_only():
    assert WorkerGone("worker-1", "given back").fields() == {"worker": "worker-1", "why": "given back"}
    assert {"result", "seed", "number", "best"}.isdisjoint(
        EvaluationEnded(1, "relu(x)", "worker-1", "done", 0.5, 1.0, None, None, 0, 1, 0.5, None).fields()
    )
