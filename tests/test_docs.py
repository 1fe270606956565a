"""The pages say everything that is public, and what they run works."""

import csv
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import blocks, read_page

import sparsedd
from sparsedd import cli
from sparsedd.experiments import Store, verify

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = {"_build", "_generated", "classes", "examples", "modules"}  # with the pages
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if not MADE & set(page.relative_to(DOCS).parts)]


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
            if inspect.isclass(value) and any(value is other for other in found.values()):
                continue  # it is in two modules
            found[name] = value
            if inspect.isclass(value):
                found |= {f"{name}.{method}": function for method, function in methods(value)}
    return found


@pytest.fixture(scope="module")
def described(site) -> dict[str, str]:
    """The names that the built pages describe, and their pages, from the inventory."""
    *header, body = (site / "objects.inv").read_bytes().split(b"\n", 4)
    assert header[0] == b"# Sphinx inventory version 2"
    entries = [line.split(" ") for line in zlib.decompress(body).decode().splitlines()]
    return {name: page for name, role, _, page, *_ in entries if role.startswith("py:")}


def test_every_public_name_is_on_a_page(described):
    assert len(public()) > 80
    assert sorted(set(public()) - set(described)) == []


def test_every_class_has_a_page_and_every_name_a_line_in_the_reference(site, described):
    index = (site / "api" / "index.html").read_text()
    for name, value in public().items():
        if inspect.isclass(value):
            assert described[name].startswith(f"api/classes/{name}.html"), name
    lines = {name for module in modules() for name, _ in members(module)}
    assert sorted(name for name in lines & set(described) if f'title="{name}"' not in index) == []


def test_signatures_can_be_read(site):
    for page in site.glob("api/**/*.html"):
        for signature in re.findall(r'<dt class="sig .*?</dt>', page.read_text(), flags=re.S):
            text = re.sub(r"<[^>]+>", "", signature)
            assert len(text) < 600 and "~" not in text and "._" not in text, f"{page.name}: {text}"
        fields = re.findall(r"<strong>\w+</strong> \((.*?)\) –", page.read_text())
        assert not [field for field in fields if "._" in re.sub(r"<[^>]+>", "", field)], page.name


def test_a_class_page_has_the_operators_that_are_its_own(site):
    pages = [page for page in (site / "api" / "classes").glob("*.html") if "__le__" in page.read_text()]
    assert [page.stem for page in pages] == ["sparsedd.Mask"]


def test_a_long_constructor_has_a_table_of_its_fields(site):
    page = (site / "api" / "classes" / "sparsedd.experiments.Experiment.html").read_text()
    assert "<h1>experiments.<wbr>Experiment<" in page
    table = re.sub(r"<[^>]+>", "", re.search(r'<table class="fields.*?</table>', page, flags=re.S)[0])
    assert re.search(r"train_size\s+int \| None\s+None", table) and re.search(r"levels\s+int\s+32", table)


def test_what_a_newcomer_looks_for_is_in_the_index(site):
    index = (site / "genindex.html").read_text()
    assert [words for words in ("custom model", "own dataset", "resume", "iterative pruning") if words not in index] == []


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
    (commands,) = [action for action in cli._make_parser()._actions if action.choices]
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
    page = read_page(DOCS / "figures.md").splitlines()
    names = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"}
    for number, figure in sparsedd.experiments.FIGURES.items():
        data = ", ".join(dict.fromkeys(names[experiment.dataset] for experiment in figure.experiments))
        gpu = "; a GPU" * any(experiment.model != "lenet_300_100" for experiment in figure.experiments)
        row = f"| {number} | {figure.caption} | `sparsedd figure {number}` | {data}{gpu} | "
        assert len([line for line in page if line.startswith(row)]) == 1, row


def test_the_hours_of_a_figure_are_those_that_were_measured():
    sweeps: dict[tuple[Path, str, str], list[float]] = {}
    for path in (ROOT / "results" / "mnist-paper").glob("*/levels.csv"):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                sweeps.setdefault((path, row["experiment"], row["seed"]), []).append(float(row["seconds"]))
    fastest = min((seconds for seconds in sweeps.values() if len(seconds) == 32), key=sum)
    sweep, dense = sum(fastest) / 3600, fastest[0] / 3600
    hours = {line.split(" | ")[0]: line.rstrip(" |").split(" | ")[-2:] for line in read_page(DOCS / "figures.md").splitlines()}
    for number, count, redense in ("5", 1, 0), ("13", 3, 0), ("35", 2, 0), ("37", 1, 4), ("44", 3, 0):
        assert hours[f"| {number}"] == 2 * [f"{5 * (count * sweep + redense * dense):.0f}"], number
    assert hours["| 1"] == [f"{5 * sweep:.0f} + not timed: CIFAR-10, CIFAR-100", f"{5 * sweep:.0f}"]
    assert hours["| 30"] == ["not timed", f"{5 * sweep:.0f}"]


def test_every_preset_is_on_its_page():
    page = (DOCS / "api" / "experiments.rst").read_text()
    for preset in sparsedd.experiments.PRESETS:
        assert f'``"{preset}"``' in page, preset


def test_the_tutorial_runs(tmp_path):
    assert "Sweet from" in run("\n".join(blocks(DOCS / "tutorial.md")), tmp_path)
    assert (tmp_path / "sweep.png").stat().st_size > 10_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_every_page_is_python(page):
    for block in blocks(page, r"(?:python|\{code-block\} python)"):
        compile(block, page.name, "exec")


def run(code: str, folder: Path) -> str:
    """What a script prints, which must not even warn."""
    (folder / "page.py").write_text(code)
    environment = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(folder)}
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_sparsedd_has_all_of_it():
    code = "\n".join(blocks(DOCS / "all-of-sparsedd.md", r"(?:python|\{code-block\} python)"))
    for name, value in public().items():
        path = name.split(".")[1:]
        if not path:
            continue
        if (hasattr(sparsedd, path[0]) and not inspect.ismodule(getattr(sparsedd, path[0]))) or inspect.ismodule(value):
            pattern = rf"(\.|def ){path[1]}\b" if len(path) > 1 else rf"\b{path[0]}\b"
        else:
            pattern = rf"(\.|def ){path[2]}\b" if len(path) > 2 else rf"\b{path[0]}\.{path[1]}\b"
        assert re.search(pattern, code), f"{name} is not on the page All of sparsedd"


def test_all_of_sparsedd_runs(tmp_path):
    assert "agrees" not in run("\n".join(blocks(DOCS / "all-of-sparsedd.md")), tmp_path)
    assert (tmp_path / "figure-5" / "figure.png").exists()
    [mirror] = (tmp_path / "mirror").glob("*/*")
    assert [level.level for level in Store.open(mirror).levels()] == [0]
    assert [finding.ok for finding in verify(mirror)] == [True]


def test_the_ten_lines_of_the_first_page_run(tmp_path):
    (code,) = blocks(DOCS / "index.md", r"\{code-block\} python")
    before = """
import torch
from torch.nn.functional import cross_entropy
from sparsedd import data, models
digits = data.digits().first(200)
model = models.lenet_300_100(in_features=64, width=0.1)
batches, test = [digits.train.tensors], [digits.test.tensors]
"""
    printed = run(before + code, tmp_path).splitlines()
    assert len(printed) == 20
    assert "sparsity 0.00%" in printed[0]
    assert "sparsity 98." in printed[-1]
    assert len([line for line in code.splitlines() if line and not line.strip().startswith("#")]) == 10
    marks = re.search(r"^:emphasize-lines: ([\d,]+)$", (DOCS / "index.md").read_text(), flags=re.M)[1].split(",")
    marked = [code.lstrip("\n").splitlines()[int(number) - 1] for number in marks]
    assert all(re.search("sparsedd|Sweep|in sweep|level[.]", line) for line in marked), marked
    assert max(map(len, code.splitlines())) <= 72, "cut on a page of 1,280 pixels"


def anchors(page: Path) -> set[str]:
    """What a link into a page can lead to: its headings, as GitHub and MyST name them, and its labels."""
    text = re.sub(r"^```.*?^```$", "", read_page(page), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings} | set(
        re.findall(r"^\(([\w-]+)\)=$", text, flags=re.M)
    )


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("results/*/*.md"), *PAGES], ids=lambda page: page.name)
def test_no_link_is_dead(page):
    text = re.sub(r"^```.*?^```$", "", read_page(page), flags=re.M | re.S)
    for target in re.findall(r"\]\(<?([^)\s>]+)>?\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target) or path.startswith(("examples/", "_generated/")):  # those are made with the pages
            continue
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


def test_the_first_picture_says_what_its_text_says(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    pictures = import_module("pictures")
    _, accuracy = pictures.columns("test_accuracy")
    mean = 100 * accuracy.mean(axis=0)
    said = f"from {mean[0]:.0f} % to {mean.min():.0f} % in the Critical phase, rises to {mean.max():.0f} % in the Sweet phase"
    assert (DOCS / "index.md").read_text().count(said) == 4
    assert pictures.double_descent("dark", "narrow") == pictures.double_descent("dark", "narrow")
    assert "<svg" in pictures.memorisation()


def test_every_result_is_in_the_gallery_and_has_its_place_on_the_page_of_its_data():
    gallery = (DOCS / "gallery.md").read_text()
    for folder in (ROOT / "results").glob("*/*/"):
        assert f"{{results}} {folder.parent.name}\n" in gallery
        assert f"{folder.parent.name}-{folder.name}" in anchors(DOCS / "results" / f"{folder.parent.name}.md")


def test_the_ideas_say_what_the_results_say():
    said = re.findall(
        r"\[(agrees|disagrees|cannot be told)\]\(results/[\w-]+\.md#([\w-]+)-(\d+)\)", (DOCS / "ideas.md").read_text()
    )
    assert len(said) >= 10
    for verdict, family, number in said:
        claims = (ROOT / "results" / family / number / "claims.md").read_text()
        assert f": {verdict}. Measured" in claims, f"{family}/{number}: {verdict}"


def test_the_words_of_the_design_are_in_the_glossary():
    glossary = (DOCS / "glossary.md").read_text()
    table = (DOCS / "design.md").read_text().split("## Words")[1].split("##")[0]
    words = re.findall(r"^\| ([^|]+) \|", table, flags=re.M)[1:]
    assert len(words) > 10
    for word in re.findall(r"\w[\w ]*", ", ".join(words)):
        assert re.search(rf"^{word}$", glossary, flags=re.M), word


def test_the_tests_that_contributing_names_are_there():
    named = re.findall(r"`(?:tests/)?(test_\w+\.py)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 30
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def typed() -> list[str]:
    """The commands of the shell blocks on all pages and in the README that call sparsedd."""
    lines = [line for page in (ROOT / "README.md", *PAGES) for block in blocks(page, "sh") for line in block.splitlines()]
    return list(dict.fromkeys(found[1] for line in lines if (found := re.search(r"\bsparsedd ((?:demo|\w+ ).*)", line))))


@pytest.mark.parametrize("line", typed())
def test_a_command_that_a_page_shows_is_one(line):
    assert callable(cli._make_parser().parse_args(shlex.split(line, comments=True)).command)
