"""Two connections, one entry: who wins."""
