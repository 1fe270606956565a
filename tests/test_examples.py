"""Every example runs without arguments but the folder for its files, and is short."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    command = [sys.executable, "-W", "error", str(path), "--out", str(tmp_path / "out")]
    environment = os.environ | {"SPARSEDD_DATA": str(tmp_path)}  # it needs no files
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short_and_uses_public_names_only(path):
    source = path.read_text()
    assert 15 <= len(source.splitlines()) <= 60
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sparsedd"):
            assert "_" not in node.module
            assert not any(alias.name.startswith("_") for alias in node.names)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")


def test_there_are_about_ten():
    assert len(EXAMPLES) >= 10
