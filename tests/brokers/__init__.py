"""Brokers other than Redis, where one is given."""
