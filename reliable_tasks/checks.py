"""System checks."""

from __future__ import annotations


def register_checks() -> None:
    """Register all checks with Django."""
