"""What is published: a small wheel, the same from the sdist, metadata that an index takes, and types for all that is public."""

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

import sparsedd.__main__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = sparsedd.__version__
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def python(*arguments: object, **environment: str) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env={**CLEAN, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """An sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", out)
    return out


@pytest.fixture(scope="module")
def wheel(dist) -> Path:
    return dist / f"sparsedd-{VERSION}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder to import the wheel from."""
    folder = tmp_path_factory.mktemp("installed")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def metadata(installed) -> Message:
    return email.message_from_string((installed / f"sparsedd-{VERSION}.dist-info" / "METADATA").read_text())


def sources() -> Iterator[str]:
    for path in (ROOT / "src").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(ROOT / "src"))


def test_the_wheel_is_small_and_holds_the_package_alone(wheel):
    assert wheel.stat().st_size < 300_000
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(sources())
    assert {"sparsedd/py.typed", "sparsedd/__main__.py"} < names


def test_the_sdist_builds_the_wheel_that_the_tree_builds_byte_for_byte(wheel, tmp_path):
    python("-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_sdist_holds_all_that_the_tests_and_the_pages_need(dist):
    with tarfile.open(dist / f"sparsedd-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "docs/conf.py", "benchmarks/bench.py"} < names
    assert {f"tests/{path.name}" for path in (ROOT / "tests").glob("*.py")} < names
    assert not [name for name in names if "_build" in name or "__pycache__" in name]


def test_an_index_takes_both(dist):
    printed = python("-m", "twine", "check", "--strict", *dist.iterdir())
    assert printed.count("PASSED") == 2


def test_the_page_on_an_index_has_no_link_that_leads_nowhere(metadata):
    readme, page = (ROOT / "README.md").read_text(), metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert all(link.startswith("https://") for link in links)
    assert len(re.findall(r"\]\((?!https)", readme)) > 5  # in the repository they lead somewhere
    for part in re.findall(r"^(?:#+ .*|```.*|    .*)$", readme, flags=re.M):
        assert part in page


def test_the_metadata_say_what_this_is(metadata):
    assert (metadata["Version"], metadata["License-Expression"]) == (VERSION, "MIT")
    assert f"version: {VERSION}" in (ROOT / "CITATION.cff").read_text().splitlines()
    oldest = PROJECT["requires-python"].removeprefix(">=")
    pythons = [c.rpartition(" ")[2] for c in metadata.get_all("Classifier") if re.search(r":: 3\.\d+$", c)]
    assert pythons[0] == oldest
    assert {"Typing :: Typed", "Development Status :: 3 - Alpha"} < set(metadata.get_all("Classifier"))


def test_the_changelog_is_that_of_this_version():
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert sections[0] in [("Unreleased", ""), (VERSION, sections[0][1])]
    assert all(date for name, date in sections if name != "Unreleased")


IMPORTS = """
import importlib, pkgutil, sys
import sparsedd
print(sparsedd.__file__)
for info in pkgutil.walk_packages(sparsedd.__path__, "sparsedd."):
    if not info.name.rpartition(".")[2].startswith("_"):
        importlib.import_module(info.name)
        print(info.name)
"""


def test_the_wheel_imports_without_a_warning(installed):
    where, *modules = python("-W", "error", "-c", IMPORTS, PYTHONPATH=str(installed)).splitlines()
    assert Path(where).is_relative_to(installed)
    assert {"sparsedd.experiments", "sparsedd.cli", "sparsedd.plotting"} < set(modules)


def test_the_command_and_the_module_are_one(installed):
    assert "sparsedd = sparsedd.cli:main" in (installed / f"sparsedd-{VERSION}.dist-info" / "entry_points.txt").read_text()
    assert sparsedd.__main__.main is sparsedd.cli.main
    assert python("-W", "error", "-m", "sparsedd", "--version", PYTHONPATH=str(installed)) == f"sparsedd {VERSION}\n"


def test_every_public_name_has_a_type(installed):
    """Pyright takes the first Python on the path, and looks for the package where that one would."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--verifytypes", "sparsedd", "--ignoreexternal", "--outputjson"]
    environment = {**CLEAN, "PATH": path, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)["typeCompleteness"]
    said = [f"{s['name']}: {d['message']}" for s in found["symbols"] for d in s["diagnostics"] if d["severity"] == "error"]
    assert (found["completenessScore"], said) == (1, [])
    assert Path(found["pyTypedPath"]).is_relative_to(installed)
    assert found["exportedSymbolCounts"]["withKnownType"] > 200
