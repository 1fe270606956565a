"""How sphinx-gallery runs the examples: each with a temporary folder for its files, and shown with the pictures in it."""

import atexit
import shutil
import tempfile
from pathlib import Path

from matplotlib import pyplot
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper

ROOT = tempfile.TemporaryDirectory(prefix="sparsedd-docs-")
atexit.register(ROOT.cleanup)
shown: set[Path] = set()


def arguments(gallery_conf, script):
    """``--out`` with a folder of the script's own, for a script that takes it."""
    source = Path(script["src_file"])
    return ["--out", str(folder(source))] if "--out" in source.read_text() else []


def pictures(block, script, gallery_conf):
    """The pictures that the script has saved since the last block; without any, the figures that are open."""
    new = sorted(path for path in folder(Path(script["src_file"])).glob("*.png") if path not in shown)
    if not new:
        return matplotlib_scraper(block, script, gallery_conf)
    shown.update(new)
    pyplot.close("all")
    copies = [shutil.copyfile(path, next(script["image_path_iterator"])) for path in new]
    return figure_rst(copies, gallery_conf["src_dir"])


def folder(source: Path) -> Path:
    """Where the script writes."""
    return Path(ROOT.name) / source.stem
