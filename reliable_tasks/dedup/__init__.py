"""Dedup, the pure part: what makes two calls the same, what a key blocks, what a conflict does."""

from .canonical import argument_digest, digest_of, readable, shorten
from .hold import FOLLOWS, KEPT_AS, REFUSED, Conflict, Hold
from .policy import FOREVER, LIVE, UNSTARTED, WAITING_ONLY, Policy, parse
from .textual import textual_key

__all__ = [
    "FOLLOWS",
    "FOREVER",
    "KEPT_AS",
    "LIVE",
    "REFUSED",
    "UNSTARTED",
    "WAITING_ONLY",
    "Conflict",
    "Hold",
    "Policy",
    "argument_digest",
    "digest_of",
    "parse",
    "readable",
    "shorten",
    "textual_key",
]
