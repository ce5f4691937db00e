"""Tests of the proof: its checker finds what is planted."""
