"""The options that several commands take, and what they need."""

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sparsedd import _checks
from sparsedd.experiments import PRESETS, Experiment
from sparsedd.sweeps._workers import count_cores

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction

SCALE = "smoke: seconds, no data files; mini, quarter, small: for two cores or a GPU; paper: as published (default: small)"


def new(commands: Commands, name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
    """Add a command's parser, whose help begins with what it is for and ends with examples."""
    return commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run_options(parser: argparse.ArgumentParser, seeds: int | None, out: Path | None) -> None:
    """Add the options of commands that compute."""
    figure = seeds is None
    where = " (default: figures/N, which share figures/runs)" if figure else f" (default: {out})" if out else ""
    parser.add_argument(
        "--out",
        type=Path,
        default=out,
        required=not (out or figure),
        metavar="DIR",
        help=f"folder for runs, table and picture{where}",
    )
    number = "as many as the paper has, fewer when not at paper scale" if figure else seeds
    parser.add_argument("--seeds", type=_at_least(1), default=seeds, metavar="K", help=f"how many seeds (default: {number})")
    parser.add_argument("--seed", type=_at_least(0), default=None, metavar="S", help="the first of them (default: 0)")
    parser.add_argument(
        "--processes",
        type=_at_least(1),
        default=None,
        metavar="P",
        help="how many share the work (default: one for each core; one with a GPU or a fleet)",
    )
    says = "where to train (default: cpu); cuda is all GPUs of the machine, which processes take in turns"
    parser.add_argument("--device", default=None if figure else "cpu", metavar="NAME", help=says)
    unset = None if figure else False
    parser.add_argument("--fleet", action="store_true", default=unset, help="train nets of one shape as one: for a GPU")
    says = "say what would run and what is there; write nothing"
    parser.add_argument("--dry-run", action="store_true", default=unset, help=says)


def check_preset(text: str) -> str:
    """Return the argument if it names a preset, or an experiment of the user's own."""
    if text not in PRESETS and ":" not in text:
        near = "".join(f". Did you mean {name}?" for name in get_close_matches(text, PRESETS, 1))
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (choose from {', '.join(sorted(PRESETS))}, or FILE.py:NAME or MODULE:NAME of your own)"
            f"{near}"
        )
    return text


def load_preset(text: str) -> Experiment:
    """Return a preset, or import an experiment of the user's own: who types its name has chosen to run that file."""
    if text in PRESETS:
        return PRESETS[text]
    where, _, name = text.rpartition(":")
    file = Path(where).resolve() if where.endswith(".py") else None
    if file and not file.is_file():
        raise FileNotFoundError(f"there is no file {where}: {text} must be FILE.py:NAME, of an Experiment.")
    module, folder = (file.stem, file.parent) if file else (where, Path.cwd())
    if not all(map(str.isidentifier, [module] if file else module.split("."))):
        raise ValueError(f"{where} can't be imported under the name {module!r}, which is none of Python's: rename it.")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # as for a script; worker processes have it from here
    found = _import(module, where)
    if file and Path(getattr(found, "__file__", None) or "").resolve() != file:
        raise ValueError(f"{where} has the name of another module, {found!r}: rename it.")
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{where} has no {name!r}: {text} must name an Experiment in it.")
        found = getattr(found, part)
    if inspect.isroutine(found):
        raise TypeError(f"{text} is a function: call it in {where}, and name the Experiment that it returns.")
    return _checks.kind(text, found, Experiment, "an Experiment")


def _import(module: str, where: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ImportError(
                f"there is no module {where}: pass FILE.py:NAME, or MODULE:NAME of one on Python's path."
            ) from None
        raise ImportError(f"{where} can't be imported: {error}.") from error
    except (Exception, SystemExit) as error:  # of the user's own code
        raise ImportError(f"{where} can't be imported: {type(error).__name__}: {error}") from error


def count_processes(options: argparse.Namespace) -> int:
    """Return how many processes share the work."""
    return options.processes or (count_cores() if options.device == "cpu" and not options.fleet else 1)


def drawable() -> None:
    """Raise an ImportError where matplotlib is missing: before the work, not after it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'sparsedd[demo]'.") from error
    matplotlib.use("agg")


def _at_least(least: int) -> Callable[[str], int]:
    """Return a parser of arguments that are integers of at least ``least``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return value

    return integer
