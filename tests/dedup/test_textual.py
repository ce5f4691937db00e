"""celery_once's textual keys, for code that relies on them."""

from __future__ import annotations

import pytest

from reliable_tasks.dedup import textual_key


@pytest.mark.parametrize(
    ("arguments", "keys", "text"),
    [
        ({}, None, "qo_t"),
        ({"b": 2, "a": 1}, None, "qo_t_a-1_b-2"),
        ({"b": 2, "a": 1}, ["b"], "qo_t_b-2"),
        ({"a": 1}, [], "qo_t"),
        ({"a": None, "b": True}, None, "qo_t_a-None_b-True"),
        ({"a": {"y": 1, "x": "é"}}, None, "qo_t_a-{'x': 'é', 'y': 1}"),
        ({"a": {"x": {"z": 1}}}, None, "qo_t_a-{'x': \"{'z': 1}\"}"),
        ({"a": [{"y": 1, "x": 2}, 3]}, None, "qo_t_a-[\"{'x': 2, 'y': 1}\", 3]"),
    ],
)
def test_the_text(arguments, keys, text):
    """A key is spelled as celery_once 3.0 spells it, to the letter."""
    assert textual_key("t", arguments, keys) == text


def test_texts_collide():
    """That different calls can share a text is part of that spelling."""
    assert textual_key("t", {"a": "1_b-2"}, None) == textual_key("t", {"a": 1, "b": 2}, None)
