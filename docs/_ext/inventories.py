"""Lists of other projects' names, in the form that intersphinx reads, made of a few lines of text."""

import zlib
from pathlib import Path

HEADER = "# Sphinx inventory version 2\n# Project: {}\n# Version: \n# The remainder of this file is compressed using zlib.\n"


def write_inventories(source: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory for each project of the source; return its address and the file by the project's name.

    A line ``[name] address`` begins a project. The lines below it are ``role name page``, where ``{}`` in the page is
    the name; a fourth word is the name that the page has for it.
    """
    folder.mkdir(exist_ok=True)
    found: dict[str, tuple[str, list[str]]] = {}
    for line in filter(None, source.read_text().splitlines()):
        first, second, *rest = line.split()
        if first[0] == "[":
            project = found[first[1:-1]] = second, []
        else:
            page, known = rest[0], rest[1] if rest[1:] else second
            project[1].append(f"{second} py:{first} 1 {page.format(known)}#{known} -\n")
    for name, (_, lines) in found.items():
        (folder / f"{name}.inv").write_bytes(HEADER.format(name).encode() + zlib.compress("".join(lines).encode()))
    return {name: (address, str(folder / f"{name}.inv")) for name, (address, _) in found.items()}
