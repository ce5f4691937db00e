"""The pure part of dedup."""
