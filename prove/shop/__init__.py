"""The business that a proof runs: orders, and the effects that tasks have on them."""
