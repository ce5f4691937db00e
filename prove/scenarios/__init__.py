"""What is done to the world, scenario by scenario."""

from prove.scenarios.registry import SCENARIOS, Scenario

from prove.scenarios import processes, brokers, databases, load  # isort: skip

__all__ = ["SCENARIOS", "Scenario", "brokers", "databases", "load", "processes"]
