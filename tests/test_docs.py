"""The pages say everything that is public, and what they run works."""

import inspect
import pkgutil
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sparsedd
from sparsedd import cli

DOCS = Path(__file__).parent.parent / "docs"


def modules() -> Iterator[ModuleType]:
    """The public modules: no part of their names begins with an underscore."""
    yield sparsedd
    for info in pkgutil.walk_packages(sparsedd.__path__, "sparsedd."):
        if "._" not in info.name:
            yield import_module(info.name)


def members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public objects of a module, by full name: those of ``__all__``, else the functions and classes that it defines."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__ and hasattr(value, "__qualname__")
    ]
    for name in names:
        if not isinstance(getattr(module, name), ModuleType):
            yield f"{module.__name__}.{name}", getattr(module, name)


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines and no class from elsewhere does."""
    elsewhere = [base for base in cls.__mro__ if not base.__module__.startswith("sparsedd")]
    for name, value in vars(cls).items():
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if name.startswith("_") or not (inspect.isfunction(value) or isinstance(value, property)):
            continue
        if not any(name in vars(base) for base in elsewhere):
            yield name, value


def public() -> dict[str, Any]:
    """Everything public, by full name."""
    found: dict[str, Any] = {}
    for module in modules():
        found[module.__name__] = module
        for name, value in members(module):
            found[name] = value
            if inspect.isclass(value):
                found |= {f"{name}.{method}": function for method, function in methods(value)}
    return found


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> set[str]:
    """The names that the built pages describe, from their inventory."""
    out = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-D", "html_theme=basic", "-D", "plot_gallery=0", DOCS, out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    *header, body = (out / "objects.inv").read_bytes().split(b"\n", 4)
    assert header[0] == b"# Sphinx inventory version 2"
    entries = [line.split(" ") for line in zlib.decompress(body).decode().splitlines()]
    return {name for name, role, *_ in entries if role.startswith("py:")}


def test_every_public_name_is_on_a_page(described):
    assert len(public()) > 80
    assert sorted(set(public()) - described) == []


def test_every_name_on_a_page_is_there(described):
    for name in described:
        if "._" in name:  # where a class is defined, or an operator
            continue
        parts = name.split(".")
        split = max(k for k in range(1, len(parts) + 1) if ".".join(parts[:k]) in sys.modules)
        value: Any = sys.modules[".".join(parts[:split])]
        for part in parts[split:]:
            assert hasattr(value, part), name
            value = getattr(value, part)


@pytest.mark.parametrize("name", sorted(public()))
def test_every_public_object_says_what_it_is(name):
    value = public()[name]
    if not (inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property)):
        return  # a constant or an alias: its page says it
    doc = value.__doc__
    assert doc, f"{name} has no docstring"
    assert doc.strip(), f"{name} has no docstring"
    if inspect.isclass(value):
        assert not doc.startswith(f"{value.__name__}("), f"{name} has the docstring that dataclass or NamedTuple makes"


def test_every_command_and_option_is_on_its_page():
    page = (DOCS / "api" / "cli.md").read_text()
    (commands,) = [action for action in cli._parser()._actions if action.choices]
    for command, parser in commands.choices.items():
        assert f"`sparsedd {command}" in page, command
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or re.search(f"`{option}[ `]", page), f"{command} {option}"


def test_the_columns_of_the_tables_are_on_their_page():
    page = (DOCS / "api" / "cli.md").read_text()
    tables = import_module("sparsedd.experiments._tables")
    for column in {*tables.COLUMNS, *tables.EPOCH_COLUMNS, *tables.LINE_COLUMNS}:
        assert f"`{column}`" in page, column


def test_every_figure_is_in_the_table_with_its_command_and_what_it_needs():
    page = (DOCS / "figures.md").read_text().splitlines()
    names = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"}
    for number, figure in sparsedd.experiments.FIGURES.items():
        data = ", ".join(dict.fromkeys(names[experiment.dataset] for experiment in figure.experiments))
        gpu = "; a GPU" * any(experiment.model != "lenet_300_100" for experiment in figure.experiments)
        assert f"| {number} | {figure.caption} | `sparsedd figure {number}` | {data}{gpu} |" in page


def test_every_preset_is_on_its_page():
    page = (DOCS / "api" / "experiments.rst").read_text()
    for preset in sparsedd.experiments.PRESETS:
        assert f'``"{preset}"``' in page, preset


def test_the_tutorial_runs(tmp_path):
    text = (DOCS / "tutorial.md").read_text()
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)))
    command = [sys.executable, "-W", "error", script]
    environment = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Sweet from" in done.stdout
    assert (tmp_path / "sweep.png").stat().st_size > 10_000


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_python_on_every_page_is_python(page):
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.M | re.S):
        compile(block, page.name, "exec")
