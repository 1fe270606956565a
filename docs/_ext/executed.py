"""Pages that are run while they are read: below each block of Python stands what it printed and drew."""

import io
import re
import traceback
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

from drawn import save, write_both
from matplotlib import pyplot
from sphinx.errors import ExtensionError

PAGES = {"tutorial"}
BLOCK = re.compile(r"^```python\n(.*?)^```$\n", flags=re.M | re.S)


def execute(app, page, source):
    """Run the blocks of a page as one script."""
    if page not in PAGES:
        return
    names, pictures = {"__name__": "__main__"}, Path(app.srcdir) / "_generated" / page
    pictures.mkdir(parents=True, exist_ok=True)

    def shown(block):
        with redirect_stdout(printed := io.StringIO()):
            try:
                exec(compile(block[1], f"{page}.md", "exec"), names)
            except Exception:
                raise ExtensionError(f"{page}.md: this block\n\n{block[1]}\nfailed:\n\n{traceback.format_exc()}") from None
        lines = "\n".join(fill(line, 80) if len(line) > 90 else line for line in printed.getvalue().splitlines())
        text = f"\n```text\n{lines}\n```\n" if lines else ""
        return block[0] + text + "".join(map(drawn, pyplot.get_fignums()))

    def drawn(number):
        figure, name = pyplot.figure(number), str(len(list(pictures.iterdir())) // 2)
        ax = figure.axes[0]
        write_both(save(figure), pictures / name)
        return f"\n```{{drawn}} {page}/{name}\n:alt: {ax.get_ylabel()} against {ax.get_xlabel()}\n```\n"

    pyplot.close("all")  # what others have left
    for old in pictures.iterdir():
        old.unlink()
    with TemporaryDirectory() as folder, chdir(folder):
        source[0] = BLOCK.sub(shown, source[0])


def setup(app):
    """Run it when its page is read, that is, when the page has changed."""
    app.connect("source-read", execute)
    return {"parallel_read_safe": True}
