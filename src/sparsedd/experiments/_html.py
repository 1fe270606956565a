"""HTML: elements whose text is escaped, because they are built and not pasted together."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

VOID = ("br", "col", "hr", "meta")
# Nothing is fetched, run or sent, whatever may stand in the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class Html(str):
    """Text that is HTML already. Any other text is escaped where it becomes part of an element."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | int | None) -> Html:
    """An element. A trailing underscore of an attribute is dropped, others become hyphens; None leaves it out.

    >>> tag("p", "a < b", tag("br"), class_="x", aria_label='"')
    '<p class="x" aria-label="&quot;">a &lt; b<br></p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Texts and elements one after the other."""
    return Html(between.join(part if isinstance(part, Html) else escape(part) for part in parts))


def words(text: str) -> Html:
    """Sentences, of which no line begins with a sign."""
    return joined([text.replace("\n", " ").replace(" %", "\N{NO-BREAK SPACE}%").replace(" ± ", "\N{NO-BREAK SPACE}± ")])


def table(caption: str, head: Iterable[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table that scrolls in a box of its own where it is too wide. The first cell of a row is its header."""
    columns = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    lines = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in cells)) for first, *cells in rows]
    body = tag("table", tag("caption", caption), tag("thead", columns), "\n", tag("tbody", joined(lines, "\n")))
    return tag("div", body, class_="scroll", role="region", aria_label=caption, tabindex=0)


def definitions(pairs: Iterable[tuple[str, str]], kind: str) -> Html:
    """A list of terms, each with what it is."""
    groups = [tag("div", tag("dt", term), tag("dd", value)) for term, value in pairs]
    return tag("dl", joined(groups, "\n"), class_=kind)


def page(title: str, body: Html, colors: str) -> str:
    """The whole document."""
    style = Html(colors + Path(__file__).with_name("_report.css").read_text(encoding="utf-8"))
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", "\n", style),
    )
    document = tag("html", "\n", tag("head", "\n", joined(head, "\n"), "\n"), "\n", tag("body", "\n", body, "\n"), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"
