"""Repair: take what is damaged out of the folder of a sweep, so that its script computes it again."""

from collections.abc import Sequence
from pathlib import Path

from sparsedd import _files
from sparsedd.sweeps._config import read_config
from sparsedd.sweeps._store import OF_LEVEL, Store
from sparsedd.sweeps._verify import Finding, can_remake, faults, join_lines, whole_lines


def take_out(store: Store) -> list[Finding]:
    """Take out the first level that is damaged and those after it, and say so. What does not belong to levels stays."""
    if not faults(store):
        return []
    with store.locked():
        found, lines = faults(store), whole_lines(store)
        bad = {finding.path for finding in found}
        first, ended = _find_span(store, found)
        gone = _gone(store, first, bad, cut=first < ended)
        _files.write(store.path / "levels.jsonl", join_lines({k: lines[k] for k in range(first)}))
        _files.remove(gone)
    said = f"took out {_format_span(first, ended)}"
    return [Finding(store.path, f"{store.path}: {said}. Run the script again, which goes on from there.", ok=True)]


def announce(store: Store, found: Sequence[Finding]) -> str:
    """Say what :func:`take_out` would take out."""
    return f"That takes out {_format_span(*_find_span(store, found))}, and the script computes that again."


def _find_span(store: Store, found: Sequence[Finding]) -> tuple[int, int]:
    """Return the first level that is to be taken out, and the one after the last; the same twice where none is."""
    lines, bad = whole_lines(store), {finding.path for finding in found}
    count = next(k for k in range(len(lines) + 1) if k not in lines)
    first = min([count, *(finding.level for finding in found if finding.level is not None)])
    while not _can_begin(store, first, bad):
        first -= 1
    return first, max([first, *(k + 1 for k in lines)])


def _format_span(first: int, ended: int) -> str:
    if first == ended:
        return "what is damaged, and no finished level"
    return f"level {first}" if ended == first + 1 else f"levels {first} to {ended - 1}"


def _can_begin(store: Store, number: int, bad: set[Path]) -> bool:
    """Return whether a level can be computed from what is intact."""

    def is_whole(path: Path) -> bool:
        return path.exists() and path not in bad

    if not number:
        return True
    config = read_config(store.path / "config.json")
    source = store.weights_path(0 if config["one_shot"] else number - 1)
    masks = [path for path in bad if (match := OF_LEVEL.fullmatch(path.name)) and match[2] == "mask"]
    has_mask = is_whole(store.mask_path(number)) and not (config["one_shot"] and masks)
    remade = can_remake(store) and (config["tickets"] is not None or is_whole(source))
    follows = config["retraining"]["weights"] != "keep" or is_whole(store.weights_path(number - 1))
    return (has_mask or remade) and follows


def _gone(store: Store, first: int, bad: set[Path], cut: bool) -> list[Path]:
    """List the files of levels that are damaged, or are of levels that are taken out."""
    one_shot = read_config(store.path / "config.json")["one_shot"]
    gone = []
    for path in store.stale():
        match = OF_LEVEL.fullmatch(path.name)
        assert match is not None
        number, kind = int(match[1] or 0), match[2]
        late = number > first or (cut and number == first)
        if path in bad or (late and kind in ("weights", "inside")) or (kind == "mask" and number > first and not one_shot):
            gone.append(path)
    gone += [path for path in bad if ".derived-" in path.name]  # made again when it is asked for
    if not first and {store.start_path, store.beginning_path} & bad:
        gone.append(store.inside_path(0))  # which may have passed the rewind step
    return gone
