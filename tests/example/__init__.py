"""The shop's own logic, and what the demo is made of."""
