"""The demo: the shop under load while its processes are killed, and an account of the result.

``python -m example_project.demo`` starts everything, breaks it, counts, and stays up to be looked
at; ``--check`` ends it instead and tells by the exit code whether the account is right.
"""
