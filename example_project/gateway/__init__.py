"""A payment gateway that misbehaves on purpose, as a service of its own.

``python -m example_project.gateway`` serves it on loopback. It knows nothing of Django or of the
shop; its book of charges is the outside world against which the shop's payments are compared.
"""
