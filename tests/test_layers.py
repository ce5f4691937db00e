"""Imports inside the package go one way."""

import ast
from graphlib import TopologicalSorter

import grimp
from importlinter import cli

from tests.harness import ROOT


def test_imports_go_one_way(capsys):
    """No module imports from a layer above its own, and every module has a layer."""
    status = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_no_module_imports_itself_by_way_of_others():
    """No loop of imports is left: not within a layer, and not by way of an import in a function."""
    graph = grimp.build_graph("reliable_tasks", exclude_type_checking_imports=True, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) > 200
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the loop


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
