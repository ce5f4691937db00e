"""Tests that use the admin as a person does, in a real browser."""
