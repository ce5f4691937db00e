"""The ledger against a model of it, in random order, on two connections."""
