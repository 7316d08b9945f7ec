"""Ctrl-C and SIGTERM ask for a stop; the second Ctrl-C does not wait for it."""

from __future__ import annotations

import signal
import threading

import pytest

from aquasurf_ray.driver.run.signals import StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_received_and_interrupts_nothing(number):
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == number.name


def test_a_second_ctrl_c_interrupts_but_a_second_sigterm_does_not():
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_of_before_are_back_afterwards_even_if_a_library_replaced_ours():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with StopSignal() as stop:
        signal.signal(signal.SIGTERM, lambda *_: None)  # as `ray.init` does
        signal.raise_signal(signal.SIGTERM)
        assert stop.received is None
        stop.install()
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == "SIGTERM"
    assert {number: signal.getsignal(number) for number in before} == before


def test_in_another_thread_signals_keep_their_effect():
    before, inside = signal.getsignal(signal.SIGTERM), []

    def use():
        with StopSignal():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert inside == [before]
