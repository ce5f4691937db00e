"""Dedup: keys, policies, conflicts."""
