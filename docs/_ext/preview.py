"""What a search engine or a chat shows of a page: its first words, its title, and a picture."""

from html import escape
from textwrap import shorten

from docutils import nodes


def describe(app, page, template, context, doctree):
    """Add the tags to the head of a page."""
    if doctree is None:
        return
    words = next((node.astext() for node in doctree.findall(nodes.paragraph) if len(node.astext()) > 40), app.config.html_title)
    text = escape(shorten(" ".join(words.split()), 160, placeholder=" …"))
    title = escape(context.get("title", "")) or app.config.project
    image = (app.config.html_baseurl or context["pathto"]("", resource=True).rstrip("/") + "/") + "_static/demo.png"
    tags = {
        "og:title": title,
        "og:description": text,
        "og:type": "article",
        "og:site_name": app.config.project,
        "og:image": image,
    }
    context["metatags"] += f'<meta name="description" content="{text}">\n'
    context["metatags"] += "".join(f'<meta property="{name}" content="{value}">\n' for name, value in tags.items())


def setup(app):
    """Do so for each page."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True}
