"""Breaks everything around reliable_tasks and counts what became of each order.

``python -m prove`` runs real producers, workers, brokers and databases, injects faults by a seed,
and has an independent checker compare business rows with effects.
"""
