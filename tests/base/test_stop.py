"""Requests to stop, in this process: signals are handled before the call that raises them returns."""

import signal
from collections.abc import Iterator

import pytest

from sharpminima.base.stop import StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest itself may run behind a shell's &
    found = StopSignal()
    found.install()
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_reads_it_is_asked_to_stop(number: signal.Signals, stop: StopSignal) -> None:
    assert not stop.raised
    signal.raise_signal(number)
    assert stop.raised
    assert stop.signal is number


def test_a_second_ctrl_c_ends_it(stop: StopSignal) -> None:
    assert not stop.raised
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_is_as_one(stop: StopSignal) -> None:
    """Slurm sends it to a step more than once."""
    assert not stop.raised
    for _ in range(2):
        signal.raise_signal(signal.SIGTERM)
    assert stop.raised


def test_a_job_behind_a_shell_goes_on(stop: StopSignal) -> None:
    """A shell without job control lets what it starts in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop.install()
    assert not stop.raised
    signal.raise_signal(signal.SIGINT)
    assert not stop.raised


def test_what_has_no_state_to_save_ends_at_once(stop: StopSignal) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
