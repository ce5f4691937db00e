"""What operators do: pauses, and operations in the background."""
