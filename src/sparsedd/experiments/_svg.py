"""SVG: matplotlib's pictures inside a page, in the page's colours."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparsedd import plotting
from sparsedd.experiments._html import Html, tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, PAPER = "#1c2128", "#57606a", "#fefefe"
# What the style sheet calls the colours. It gives those of the dark page.
NAMES = {
    INK: "ink",
    SOFT: "soft",
    PAPER: "paper",
    **{color: f"curve-{k}" for k, color in enumerate(plotting.CURVES)},
    **{color: str(phase).lower() for phase, color in plotting.COLORS.items()},
}
LOOK: Any = {
    "svg.hashsalt": "sparsedd",  # the same bytes each time
    "svg.fonttype": "none",  # text as text
    "font.size": 10.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.fontsize": 9.0,
    "legend.title_fontsize": 9.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


def colors() -> Html:
    """The colours of the light page, for the style sheet."""
    return Html(":root {" + "".join(f" --{name}: {color};" for color, name in NAMES.items()) + " }\n")


def drawn(draw: "Callable[..., Axes]", label: str, key: str, width: float = 5.2, height: float = 3.6) -> Html:
    """What ``draw(ax=)`` draws, in inches. ``label`` says what it shows to who can't see it; ``key`` is its own on the page."""
    from matplotlib import pyplot

    file = io.StringIO()
    with pyplot.style.context(["default", LOOK]):  # whatever the user's own is
        figure, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
        try:
            draw(ax=ax)
            figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        finally:
            pyplot.close(figure)
    return _inline(file.getvalue(), label, key)


def _inline(svg: str, label: str, key: str) -> Html:
    """An SVG as an element of a page that has others."""
    box = re.search(r'viewBox="([^"]+)"', svg)
    inner = re.search(r"<svg[^>]*>(.*)</svg>", svg, re.DOTALL)
    if not box or not inner:
        raise RuntimeError("this version of matplotlib writes SVG of a form that is not known here: install another one.")
    text = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", inner[1], flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[\")]", text))  # ids that something refers to; two pictures may have the same
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\1#{key}-", text).replace("xlink:href", "href")
    text = re.sub(r"'[^';\"]*'(, ?'[^';\"]*')*, ?sans-serif", "var(--sans)", text)
    for color, name in NAMES.items():
        text = text.replace(color, f"var(--{name})")
    return tag("svg", Html(re.sub(r"\n\s*", "\n", text)), viewBox=box[1], role="img", aria_label=label)
