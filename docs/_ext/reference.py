"""The reference: a page for each public module and class, a table of what is in it, and signatures that can be read."""

import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path

from numpy.typing import ArrayLike
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

import sparsedd

OPERATORS = ("__and__", "__or__", "__sub__", "__invert__", "__le__", "__getitem__")
MANY = 15  # arguments: a constructor with more has a table of them in the place of a signature
# Classes whose objects come from functions: no constructor is shown.
GIVEN = ["Advice", "DoubleDescent", "Enforcement", "Figure", "Finding", "Level", "Logger", "Phase", "Phases", "Tables"]
UNIONS = {
    stringify_annotation(ArrayLike, "smart"): "ArrayLike",
    "str | PathLike[str]": "PathLike",
    "Callable[[str, Parameter], Tensor]": "Score",
    "Callable[[Tensor, int, int], Tensor]": "Noise",
    "Callable[[Tensor, Tensor, Tensor], Tensor]": "Augmentation",
    "Callable[[int], float]": "Schedule",
    "Module | Mapping[str, Tensor]": "Weights",
    "<factory>": "...",
}


def public_modules() -> Iterator[str]:
    """The names of the public modules, that of the package first."""
    yield "sparsedd"
    for info in pkgutil.walk_packages(sparsedd.__path__, "sparsedd."):
        if "._" not in info.name:
            yield info.name


def members(module: str) -> dict[str, object]:
    """The public names of a module but for modules: those of ``__all__``, else what it defines."""
    scope = vars(import_module(module))
    names = scope.get("__all__") or [
        name for name, value in scope.items() if name[0] != "_" and getattr(value, "__module__", None) == module
    ]
    return {name: scope[name] for name in names if not inspect.ismodule(scope[name])}


def classes() -> dict[str, type]:
    """Each public class by its first full name."""
    found: dict[str, type] = {}
    for module in public_modules():
        for name, value in members(module).items():
            if inspect.isclass(value) and value not in found.values():
                found[f"{module}.{name}"] = value
    return found


def methods(cls: type) -> list[str]:
    """The public methods and properties that are documented here, and the operators."""
    own = [name for base in reversed(cls.__mro__) if base.__module__.startswith("sparsedd") for name in vars(base)]
    kinds = (staticmethod, classmethod, property)
    return [
        name
        for name in dict.fromkeys(own)
        if (name[0] != "_" or name in OPERATORS) and getattr(cls, name).__doc__
        if inspect.isfunction(inspect.getattr_static(cls, name)) or isinstance(inspect.getattr_static(cls, name), kinds)
    ]


class Names(SphinxDirective):
    """A table with a line for each public name of a module, or for each method of a class."""

    required_arguments = 1

    def run(self):
        whole, pages = self.arguments[0], {cls: name for name, cls in classes().items()}
        if whole in classes():
            found = {f"{whole}.{name}": inspect.getattr_static(classes()[whole], name) for name in methods(classes()[whole])}
        else:
            values = members(whole).items()
            found = {(pages[value] if inspect.isclass(value) else f"{whole}.{name}"): value for name, value in values}
        rows = [f"   * - :py:obj:`~{full}`\n     - {summary(value)}" for full, value in found.items()]
        table = [".. list-table::\n   :class: names\n   :widths: auto\n", *rows]
        return self.parse_text_to_nodes("\n".join(table)) if rows else []


def summary(value: object) -> str:
    """The first sentence about an object, or the value of a constant."""
    if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod):
        text = re.split(r"(?<=\.)(?<!al\.)(?<!Fig\.)\s|\n\n", inspect.getdoc(value) or "")[0].replace("\n", " ")
        return re.sub(r":\w+:`[~.]?([^`<]*?)( <.*?>)?`", r"\1", text)
    text = re.sub(r"([a-z_]+[.])+(?=[A-Za-z])", "", repr(value))
    return f"``{textwrap.shorten(text, 90, placeholder=' …')}``"


class Reference(SphinxDirective):
    """The tables of all public modules."""

    def run(self):
        parts = [f".. rubric:: :mod:`{module}`\n\n.. names:: {module}\n" for module in public_modules()]
        return self.parse_text_to_nodes("\n".join(parts))


def write(app) -> None:
    """Write a page for each class, and for each module that has none written by hand."""
    api, pages = Path(app.srcdir) / "api", {}
    written = "".join(path.read_text() for path in api.glob("*.*"))
    for full, cls in classes().items():
        listed = list(cls.__members__) if issubclass(cls, Enum) else methods(cls)
        operators = [name for name in listed if name in OPERATORS]
        text = f".. autoclass:: {full}{'()' if cls.__name__ in GIVEN else ''}\n"
        text += f"   :special-members: {', '.join(operators)}\n" * bool(operators)
        text += f"   :members: {', '.join(listed)}\n" * bool(listed) + "   :undoc-members:\n" * issubclass(cls, Enum)
        pages[api / "classes" / f"{full}.rst"] = full.removeprefix("sparsedd."), text
    for module in public_modules():
        name = module.removeprefix("sparsedd.") if module != "sparsedd" else "core"
        if f"automodule:: {module}\n" not in written:
            pages[api / "modules" / f"{name}.rst"] = module, f".. automodule:: {module}\n   :members:\n"
    for page, (title, text) in pages.items():
        page.parent.mkdir(exist_ok=True)
        text = f"{title}\n{'=' * len(title)}\n\n{text}"
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
    for old in {*api.glob("classes/*"), *api.glob("modules/*")} - set(pages):
        old.unlink()


def keep_words(app, what, name, obj, options, lines) -> None:
    """Give a property the words back that napoleon has taken for its type, since a colon follows them."""
    for line in [line for line in lines if what in ("property", "attribute") and line.startswith(":type: ")]:
        lines.remove(line)
        lines[0] = f"{line.removeprefix(':type: ')}: {lines[0]}"


def add_tables(app, what, name, obj, options, lines) -> None:
    """Shorten the types of fields, and end the words about a module or a class with the table of what is in it."""
    field = r"^:type \w+: (.+)|(?<=\*\* \(\*)(.+?)(?=\*\) --)"  # :type name: type, or **name** (*type*) -- words
    path = r"\b(?:[a-z_]\w*\.)+(?=\w)"
    lines[:] = [re.sub(field, lambda m: re.sub(path, r"~\g<0>" if m[1] else "", m[0]), line) for line in lines]
    if what == "class" and len(inspect.signature(obj).parameters) > MANY:
        lines += ["", *field_table(obj), ""]
    if what == "module" or (what == "class" and name in classes()):
        lines += ["", f".. names:: {name}", ""]
    own = [full for full in classes() if what == "module" and full.rpartition(".")[0] == name]
    if own:
        lines += [".. toctree::", "   :hidden:", "", *(f"   /api/classes/{full}" for full in own), ""]


def field_table(cls: type) -> list[str]:
    """Write a table of the fields of a class, with types and defaults."""
    rows = [".. list-table::", "   :header-rows: 1", "   :class: fields", "", "   * - field", "     - type", "     - default"]
    for name, field in inspect.signature(cls).parameters.items():
        kind = short(stringify_annotation(field.annotation, "smart"))
        kind = re.sub(r"~?\b(?:[a-z_]\w*\.)+(?=\w)", "", kind)
        rows += [f"   * - ``{name}``", f"     - ``{kind}``", f"     - ``{field.default!r}``"]
    return rows


def skip_classes(app, what, name, obj, skip, options):
    """Leave out of a module's page the classes, which have their own."""
    return True if what == "module" and inspect.isclass(obj) else None


def short(text: str) -> str:
    """The text with the names that unions of types have here."""
    for union, name in UNIONS.items():
        pattern = re.sub(r"\b([A-Z]\w+|ndarray|float64|dtype)", r"(?:~?(?:\\w+\\.)*)\1", re.escape(union))
        text = re.sub(pattern, name, text.replace(union, name))
    return text


def shorten(app, what, name, obj, options, signature, returned):
    """Write the short names of types, and a constructor with many arguments without them."""

    if what == "class" and signature and len(inspect.signature(obj).parameters) > MANY:
        signature = "(**fields)"
    return signature and short(signature), returned and short(returned)


def break_titles(app, page, template, context, doctree) -> None:
    """Let the title of a page of the reference break after its dots."""
    if page.startswith("api/") and "body" in context:
        context["body"] = re.sub(r"<h1>[^<]+", lambda title: re.sub(r"\.(?=\w)", ".<wbr>", title[0]), context["body"], count=1)


def tidy(app, exception) -> None:
    """Remove pages that are no longer there; after a warning, have the next build read all again, and warn."""
    if app._warncount:
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)
    if app.builder.name == "html" and not exception:
        here = {Path(app.builder.get_outfilename(name)) for name in (*app.env.found_docs, "genindex", "py-modindex", "search")}
        for page in set(Path(app.outdir).rglob("*.html")) - here - set((Path(app.outdir) / "_modules").rglob("*")):
            page.unlink()


def setup(app):
    """Write the pages before any is read."""
    app.add_directive("names", Names)
    app.add_directive("reference", Reference)
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", keep_words, priority=900)  # after napoleon
    app.connect("autodoc-process-docstring", add_tables, priority=901)
    app.connect("autodoc-skip-member", skip_classes)
    app.connect("autodoc-process-signature", shorten)
    app.connect("html-page-context", break_titles)
    app.connect("build-finished", tidy)
    return {"parallel_read_safe": True}
