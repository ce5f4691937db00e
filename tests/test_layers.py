"""Imports inside the package go one way."""

import ast

from importlinter import cli

from tests.harness import ROOT


def test_imports_go_one_way(capsys):
    """No module imports from a layer above its own, and every module has a layer."""
    status = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_every_test_states_its_promise():
    """Each test function opens with a one-sentence docstring."""
    silent = [
        f"{path.name}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent
