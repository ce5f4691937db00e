"""Arguments: models, sensitive values, subjects."""
