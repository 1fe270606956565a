"""Mutants: the package with one move to a device left out. What test_device.py does not see is printed.

python tests/device_mutants.py [PART OF A PATH]        a quarter of an hour; a process for each mutant, forked from this one
"""

import ast
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy  # noqa: F401  what every mutant needs is imported once
import pytest
import safetensors.torch  # noqa: F401
import torch

TESTS = Path(__file__).parent
SRC = TESTS.parent / "src" / "sparsedd"
DEVICES = ("device", "place", "at", "exact_on", "like")  # what names a device, in the first argument of to()
CHOSEN = {  # the tests that a file's mutants are run against, by the beginning of its path
    "sparse": "sparse_layers or everywhere",
    "convert": "sparse_layers or elsewhere",
    "_perceptron": "lenet or momentum",
    "_shards": "sharded or test_pruning",
    "_optimizers": "files or closures or counts",
    "_m": "test_pruning or large or files or steps_never or two_devices",
    "_words": "files or steps_never or two_devices",
    "metrics": "files or landscape or without or two_devices or elsewhere",
    "_noisy_labels": "data_and or lenet",
    "noise": "data_and",
    "_state": "files or counts",
    "_rewinder": "files or counts",
    "landscape": "landscape or without or elsewhere",
    "fleet": "test_fleet",
    "data": "data_and or batches_never or without or lenet",
    "models": "lenet or landscape",
    "scores": "test_pruning or large or without or gradient",
    "_pruner": "test_pruning or large or without",
    "_selection": "test_pruning or large or without",
    "cli": "commands or repair or dry",
    "experiments/_redense": "after",
    "experiments/_figures": "reproduced",
    "experiments/_run_fleet": "test_fleets or commands",
    "experiments": "lenet or momentum or gradient or own or tickets or run_all or one_precision or repair",
    "": "not workers and not resnet and not twice",
}


def find_moves(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """The calls that move a tensor or make one on a device, and how: "to" or "device"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first = ast.unparse(node.args[0]) if node.args else ""
            moved = isinstance(node.func, ast.Attribute) and node.func.attr == "to" and "dtype" not in first
            if moved and any(word in first for word in DEVICES):
                yield node, "to"
            if any(k.arg == "device" and ast.unparse(k.value) != "'cpu'" for k in node.keywords):
                yield node, "device"


def mutate(source: str, number: int) -> ast.Module:
    """The source with one of its moves left out."""
    tree = ast.parse(source)
    call, how = list(find_moves(tree))[number]

    class Drop(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            if node is not call:
                return self.generic_visit(node)
            if how == "device":
                node.keywords = [k for k in node.keywords if k.arg != "device"]
            else:
                node.args = node.args[1:]
                if not node.args and not node.keywords:
                    return node.func.value  # type: ignore[attr-defined, no-any-return]
            return node

    return ast.fix_missing_locations(Drop().visit(tree))


class Mutant(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """The importer of the one module that is another."""

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number
        self.name = ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_source(self, name: str) -> str:
        return self.path.read_text()

    def get_code(self, name: str):  # type: ignore[no-untyped-def]
        return compile(mutate(self.path.read_text(), self.number), str(self.path), "exec")

    def exec_module(self, module) -> None:  # type: ignore[no-untyped-def]
        exec(self.get_code(module.__name__), module.__dict__)


def survives(path: Path, number: int) -> bool:
    """Whether the tests pass with the mutant."""
    process = os.fork()
    if not process:
        out = os.open(os.devnull, os.O_WRONLY)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.meta_path.insert(0, Mutant(path, number))
        relative = str(path.relative_to(SRC))
        chosen = next(tests for start, tests in CHOSEN.items() if relative.startswith(start))
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", str(TESTS / "test_device.py"), "-k", chosen])))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def main(part: str = "") -> None:
    torch.set_num_threads(1)
    sys.path.insert(0, str(SRC.parent))
    total = survivors = 0
    for path in sorted(SRC.rglob("*.py")):
        relative = str(path.relative_to(SRC))
        for number, (node, how) in enumerate(find_moves(ast.parse(path.read_text()))):
            if part in relative:
                total += 1
                if survives(path, number):
                    survivors += 1
                    print(f"{relative}:{node.lineno} without {how}: {ast.unparse(node)}", flush=True)
    print(f"{survivors} of {total} mutants survive")


if __name__ == "__main__":
    main(*sys.argv[1:])
