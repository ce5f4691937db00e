"""Each verb of the ledger, alone."""
