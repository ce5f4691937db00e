"""Enqueue through the task itself: delay, apply_async, enqueue_many."""
