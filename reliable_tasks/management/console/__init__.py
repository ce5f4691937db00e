"""What the commands read their arguments with, and print with."""
