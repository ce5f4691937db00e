"""At every fault point, with real processes: die, freeze past the lease, lose the database."""
