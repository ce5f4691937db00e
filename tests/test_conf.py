"""The settings of the package: defaults, refusals, and following Django's settings."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta

import pytest

from reliable_tasks import conf
from reliable_tasks.errors import ConfigurationError

FIELDS = {field.name: str(field.type) for field in fields(conf.Settings)}
NUMBERS = [name for name, kind in FIELDS.items() if kind.split(" | ")[0] in {"int", "float"}]
AGES = [name for name, kind in FIELDS.items() if "timedelta" in kind]


@pytest.mark.parametrize("nothing", [None, {}])
def test_everything_has_a_default(nothing):
    """A project that sets nothing gets a complete and valid object."""
    assert conf.load(nothing) == conf.Settings()


@pytest.mark.parametrize("name", FIELDS)
def test_each_setting_can_be_set(name):
    """Each setting takes its own default as an explicit value, under its own name."""
    default = getattr(conf.Settings(), name)
    assert getattr(conf.load({name: default}), name) == default


def test_a_given_value_wins_over_the_default():
    """What the project sets is what the package reads, and nothing else changes."""
    loaded = conf.load({"SWEEP_BATCH": 7, "KEEP_DEAD": timedelta(days=90)})
    assert (7, timedelta(days=90)) == (loaded.SWEEP_BATCH, loaded.KEEP_DEAD)
    assert loaded.LEASE_SECONDS == conf.Settings().LEASE_SECONDS


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("LEASE_SECOND", "LEASE_SECONDS"),
        ("lease_seconds", "LEASE_SECONDS"),
        ("CRASHBUDGET", "CRASH_BUDGET"),
        ("KEEP_SUCEEDED", "KEEP_SUCCEEDED"),
    ],
)
def test_unknown_name_suggests_the_nearest(written, meant):
    """A misspelt setting is refused with the name that was probably meant."""
    with pytest.raises(ConfigurationError, match=f"{written}.*Did you mean '{meant}'"):
        conf.load({written: 1})


@pytest.mark.parametrize("name", ["ZZZ", 42, ("x",)])
def test_unknown_name_without_a_neighbour_lists_what_exists(name):
    """A name that resembles nothing is refused with the list of all settings."""
    with pytest.raises(ConfigurationError, match=r"Known: LEASE_SECONDS, .*PRUNE_BATCH"):
        conf.load({name: 1})


@pytest.mark.parametrize("value", ["LEASE_SECONDS=10", ["LEASE_SECONDS"], 10])
def test_the_setting_must_be_a_dict(value):
    """RELIABLE_TASKS that is no dict is refused by type."""
    with pytest.raises(ConfigurationError, match=f"must be a dict; it is {type(value).__name__}"):
        conf.load(value)


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_type_is_refused(name):
    """No setting takes a value of another type, and the message names setting and value."""
    with pytest.raises(ConfigurationError, match=rf"\['{name}'\] must be .*it is \[\]"):
        conf.load({name: []})


@pytest.mark.parametrize("name", [*NUMBERS, *AGES])
def test_a_bool_is_no_number(name):
    """True, which Python takes for 1, is refused where a number or an age is meant."""
    with pytest.raises(ConfigurationError, match=name):
        conf.load({name: True})


@pytest.mark.parametrize("name", [name for name, kind in FIELDS.items() if "None" not in kind])
def test_none_is_refused_where_it_has_no_meaning(name):
    """Only settings that document None take it."""
    with pytest.raises(ConfigurationError, match=name):
        conf.load({name: None})


def test_a_whole_number_of_seconds_is_taken():
    """Seconds may be written without a decimal point."""
    assert conf.load({"LEASE_SECONDS": 30}).LEASE_SECONDS == 30


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_is_finite(name, value):
    """Neither infinity nor NaN, which no timer understands, is taken for a number."""
    with pytest.raises(ConfigurationError, match=name):
        conf.load({name: value})


@pytest.mark.parametrize("name", [*NUMBERS, *AGES])
def test_nothing_may_be_negative(name):
    """No number and no age may be below zero."""
    with pytest.raises(ConfigurationError, match=name):
        conf.load({name: timedelta(seconds=-1) if name in AGES else -1})


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        *((name, False) for name in ("LEASE_SECONDS", "HEARTBEAT_SECONDS", "SWEEP_SECONDS")),
        *((name, False) for name in ("SWEEP_BATCH", "PRUNE_BATCH", "PUBLISH_BUFFER")),
        *((name, False) for name in ("PUBLISH_TIMEOUT", "CRASH_BUDGET")),
        *((name, True) for name in ("MAX_RETRIES", "RETRY_BACKOFF", "RETRY_BACKOFF_MAX")),
        *((name, True) for name in ("PUBLISH_GRACE", "BREAKER_SECONDS", "CANCEL_GRACE")),
        ("CONNECTION_MAX_AGE", True),
    ],
)
def test_zero_is_taken_where_it_means_something(name, allowed):
    """Zero turns off what can be turned off, and is refused where nothing would ever happen."""
    if allowed:
        assert getattr(conf.load({name: 0}), name) == 0
    else:
        with pytest.raises(ConfigurationError, match="greater than zero"):
            conf.load({name: 0})


@pytest.mark.parametrize(
    ("name", "choices"),
    [("PUBLISH", conf.PUBLISH_MODES), ("OTHER_TRANSACTION", conf.TRANSACTION_MODES)],
)
def test_a_mode_is_one_of_its_words(name, choices):
    """A mode takes each of its words and refuses any other, showing the words."""
    for word in choices:
        assert getattr(conf.load({name: word}), name) == word
    with pytest.raises(ConfigurationError, match=choices[0]):
        conf.load({name: choices[0].upper()})


def test_a_lease_outlasts_two_heartbeats():
    """A lease that one late heartbeat would end is refused; twice the interval is enough."""
    conf.load({"LEASE_SECONDS": 4, "HEARTBEAT_SECONDS": 2})
    with pytest.raises(ConfigurationError, match=r"at least twice HEARTBEAT_SECONDS \(2.1\)"):
        conf.load({"LEASE_SECONDS": 4, "HEARTBEAT_SECONDS": 2.1})


def test_the_object_cannot_be_changed():
    """Nobody can assign to the settings and so change them for one process only."""
    with pytest.raises(FrozenInstanceError):
        conf.current().LEASE_SECONDS = 1.0


def test_follows_djangos_settings(settings):
    """A changed RELIABLE_TASKS is seen at the next read, and so is its end."""
    settings.RELIABLE_TASKS = {"SWEEP_BATCH": 3}
    assert conf.current().SWEEP_BATCH == 3
    settings.RELIABLE_TASKS = {"SWEEP_BATCH": 4}
    assert conf.current().SWEEP_BATCH == 4
    settings.RELIABLE_TASKS = {}
    assert conf.current().SWEEP_BATCH == conf.Settings().SWEEP_BATCH


def test_a_wrong_setting_is_refused_when_it_is_read(settings):
    """A wrong setting raises at each read and never leaves the values of before in force."""
    conf.current()
    settings.RELIABLE_TASKS = {"NO_SUCH": 1}
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="NO_SUCH"):
            conf.current()


def test_is_built_once():
    """Reading a setting twice builds nothing anew."""
    assert conf.current() is conf.current()
