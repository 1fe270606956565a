"""Files written on purpose, with seals that are right: ``python crafted.py FOLDER`` reads each, and says what came of it."""

import hashlib
import json
import pickle
import resource
import shutil
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparsedd import Mask, Rewinder, _files, noise
from sparsedd.experiments import Experiment, Store, Tables, interpolation, redense, redense_weights, run

TOY = replace(
    Experiment().scaled("smoke"),
    dataset="blobs",
    train_size=60,
    batch_size=25,
    width=0.02,
    levels=3,
    momentum=0.9,
    noise=noise.Symmetric(0.4),
)
ZEROS = "0" * 64
Case = tuple[str, Callable[[Path], Path], Callable[[Path], object]]


class Payload:
    """What a pickle of it does when it is loaded: it makes a file."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(sys.argv[1]) / "loaded",)


def sealed(
    content: str, tensors: str = "", body: bytes = b"", kind: str = '"mask"', version: str = "1", length: int | None = None
) -> bytes:
    """A file with any header, and a seal that is right."""
    inner = f'{{"sha256":"{ZEROS}","kind":{kind},"version":{version},"content":{content}}}'
    header = f'{{"__metadata__":{{"sparsedd":{json.dumps(inner)}}}{tensors}}}'.encode()
    blank = (len(header) if length is None else length).to_bytes(8, "little") + header + body
    return blank.replace(ZEROS.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)


def of_mask(name: str, content: str, tensors: str = '"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}', **more: Any) -> Case:
    """A mask, by default of one byte."""
    data = sealed(content, f",{tensors}" * bool(tensors), **{"body": b"\xff", **more})
    return f"mask: {name}", lambda folder: written(folder / "mask.safetensors", data), Mask.load


def of_rewinder(name: str, content: str) -> Case:
    data = sealed(content, kind='"rewinder"')
    return f"rewinder: {name}", lambda folder: written(folder / "rewinder.safetensors", data), Rewinder.load


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def of_config(name: str, change: Callable[[dict[str, Any]], object] | None = None, text: str | bytes | None = None) -> Case:
    """A configuration with something changed, and the key that belongs to it."""

    def make(folder: Path) -> Path:
        path = next(folder.rglob("config.json"))
        config = json.loads(path.read_bytes())
        if change:
            change(config)
            plain = {key: value for key, value in config.items() if key != "key"}
            config["key"] = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
        data = json.dumps(config, indent=2) + "\n" if text is None else text
        return written(path, data.encode() if isinstance(data, str) else data)

    return f"config.json: {name}", make, lambda path: Store.open(path.parent)


def relined(path: Path, number: int, record: dict[str, Any]) -> Path:
    """Put another record, with its seal, in a line of levels.jsonl."""
    lines = path.read_text().splitlines()
    plain = {name: value for name, value in record.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    lines[number:] = [json.dumps({**plain, "sha256": digest}), *lines[number + 1 :]]
    return written(path, "".join(f"{line}\n" for line in lines).encode())


def of_line(name: str, change: Callable[[dict[str, Any]], object], number: int = 1) -> Case:
    def make(folder: Path) -> Path:
        path = next(folder.rglob("levels.jsonl"))
        record = json.loads(path.read_text().splitlines()[min(number, 1)])
        change(record)
        return relined(path, number, record)

    return f"levels.jsonl: {name}", make, lambda path: Store.open(path.parent).levels()


def of_file(name: str, file: str, change: Callable[[Path], bytes], read: Callable[[Path], object] | None = None) -> Case:
    """A file of a level, whose line has the new digest."""

    def make(folder: Path) -> Path:
        path = next(folder.rglob(file))
        written(path, change(path))
        lines = path.parent / "levels.jsonl"
        for number, line in enumerate(lines.read_text().splitlines()):
            record = json.loads(line)
            if file in record["files"]:
                record["files"][file] = hashlib.sha256(path.read_bytes()).hexdigest()
                relined(lines, number, record)
        return path

    return f"{file}: {name}", make, read or (lambda path: list(run(TOY, path.parent.parent.parent)))


def resealed(path: Path, change: Callable[[dict[str, torch.Tensor], Any], Any]) -> bytes:
    kind, tensors, content = _files.read_sealed(path)
    return _files.seal(kind, tensors, change(tensors, content) or content)


def of_derived(name: str, file: str, change: Callable[[dict[str, torch.Tensor], Any], Any]) -> Case:
    def make(folder: Path) -> Path:
        path = next(folder.rglob(file))
        return written(path, resealed(path, change))

    def read(path: Path) -> None:
        if path.name.endswith("interpolation.safetensors"):
            interpolation(TOY, 1, path.parent.parent.parent)
        else:
            redense(TOY, 1, path.parent.parent.parent)
            redense_weights(TOY, 1, path.parent.parent.parent)

    return f"{file}: {name}", make, read


def of_table(name: str, change: Callable[[bytes], bytes]) -> Case:
    header = b"experiment,scale,seed,level,sparsity,remaining,train_accuracy,test_accuracy,best_test_accuracy,clean_accuracy,"
    header += b"flipped_accuracy,learning_distance,train_loss,test_loss,seconds,diverged\n"
    whole = header + b"a,smoke,0,0,0.0,50,0.5,0.5,0.5,0.5,,1.5,2.5,2.5,0.1,0\n"
    return (
        f"levels.csv: {name}",
        lambda folder: written(folder / "levels.csv", change(whole)),
        lambda path: Tables.read(path.parent),
    )


def cases() -> Iterator[Case]:
    deep = "[" * 100_000 + "]" * 100_000
    bits = '[["w",[8]]]'
    yield "mask: a pickle", lambda folder: written(folder / "mask.safetensors", pickle.dumps(Payload())), Mask.load
    yield "rewinder: a pickle", lambda folder: written(folder / "r.safetensors", pickle.dumps(Payload())), Rewinder.load
    yield of_mask("a header of 2**60 bytes", bits, length=2**60)
    yield of_mask("a header of 2**63 bytes", bits, length=2**63)
    yield of_mask("no header", bits, length=0)
    yield of_mask("a header that ends in the middle", bits, length=40)
    yield of_mask("a deep header", bits, tensors=f'"w":{deep}')
    yield of_mask("deep content", deep)
    yield of_mask("content as deep as JSON can be read", "[" * 900 + "]" * 900)
    for shape in (
        "[1099511627776]",
        "[4611686018427387904,4611686018427387904]",
        "[-8]",
        "[8,true]",
        "[8.0]",
        '"8"',
        "null",
        "[9]",
    ):
        yield of_mask(f"shape {shape}", f'[["w",{shape}]]')
    for content in (
        "5",
        "null",
        "{}",
        "[]",
        '"w"',
        "[5]",
        "[[]]",
        '[["w",[8],1]]',
        "NaN",
        '[["w",[NaN]]]',
        '[["w",[1e999]]]',
        "1" * 5000,
    ):
        yield of_mask(f"content {content:.20}", content)
    yield of_mask("a name that is no string", '[[["w"],[8]]]')
    yield of_mask("another name", '[["v",[8]]]')
    yield of_mask("a name twice", '[["w",[8]],["w",[8]]]')
    yield of_mask(
        "a tensor without a name",
        bits,
        '"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"v":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}',
    )
    yield of_mask("a key twice in the content", '{"a":1,"a":2}')
    yield of_mask("a tensor twice", bits, ",".join(['"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'] * 2))
    yield of_mask("the metadata twice", bits, '"__metadata__":{}')
    yield of_mask(
        "overlapping tensors",
        bits,
        '"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"v":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}',
    )
    yield of_mask("a tensor past the end", bits, '"w":{"dtype":"U8","shape":[1000],"data_offsets":[0,1000]}')
    yield of_mask("offsets that run backwards", bits, '"w":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}')
    yield of_mask("more bytes than shape", bits, '"w":{"dtype":"U8","shape":[0],"data_offsets":[0,1]}')
    yield of_mask("another dtype", bits, '"w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}')
    yield of_mask("a dtype of half bytes", bits, '"w":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}')
    yield of_mask("an unknown dtype", bits, '"w":{"dtype":"Z9","shape":[1],"data_offsets":[0,1]}')
    yield of_mask("another version", bits, version='"2"')
    yield of_mask("a version that is none", bits, version="null")
    yield of_mask("a kind that is no word", bits, kind="[]")
    yield of_mask("a kind twice", bits, kind='"mask","kind":"mask"')
    for content in (
        *(
            "5",
            "null",
            "[]",
            '{"step":0}',
            '{"step":"0","parts":{"dict":[]}}',
            '{"step":1.5,"parts":{"dict":[]}}',
            '{"step":-1,"parts":{"dict":[]}}',
        ),
        *(
            '{"step":0,"parts":[]}',
            '{"step":0,"parts":{"tensor":"w"}}',
            '{"step":0,"parts":{"tensor":[]}}',
            '{"step":0,"parts":{"eval":[["a",1]]}}',
        ),
        *(
            '{"step":0,"parts":{"dict":[[[],1]]}}',
            '{"step":0,"parts":{"dict":[["a",1],["a",2]]}}',
            '{"step":0,"parts":{"dict":5}}',
            '{"step":0,"parts":{}}',
        ),
        *(
            '{"step":0,"parts":{"dict":[],"tuple":[]}}',
            '{"step":NaN,"parts":{"dict":[]}}',
            '{"step":0,"step":1,"parts":{"dict":[]}}',
        ),
        f'{{"step":0,"parts":{{"dict":[["m",{"[" * 900 + "]" * 900}]]}}}}',
    ):
        yield of_rewinder(f"content {content:.50}", content)

    yield of_config("a pickle", text=pickle.dumps(Payload()))
    yield of_config("a list", text="[]")
    yield of_config("nothing", text="")
    yield of_config("deep", text=deep)
    yield of_config("UTF-16", text=json.dumps(TOY.config()).encode("utf-16"))
    yield of_config("a key twice", text='{"key": "a", "seed": 0, "seed": 1}')
    yield of_config("no fields", lambda config: config.clear())
    yield of_config("another key", text=json.dumps({"key": "0" * 64, **TOY.config()}, indent=2) + "\n")
    for field, value in (
        *(
            ("dataset", "<script>alert(1)</script>"),
            ("dataset", "../../etc"),
            ("model", "../x"),
            ("scale", "/tmp"),
            ("precision", {}),
        ),
        *(("seed", "../.."), ("seed", -1), ("seed", True), ("seed", int("9" * 4000)), ("levels", 1e400), ("levels", None)),
        *(("learning_rate", float("nan")), ("learning_rate", float("inf")), ("learning_rate", 10**400), ("momentum", "<b>")),
        *(
            ("noise", {"type": "Popen", "args": ["touch"]}),
            ("noise", {"type": []}),
            ("noise", {"type": "Symmetric", "rate": float("nan")}),
        ),
        *(
            ("noise", {"type": "Asymmetric", "rate": 0.1, "flips": {"pairs": [["a", "b"]]}}),
            ("noise", {"type": "Asymmetric", "rate": 0.1, "flips": "/x"}),
        ),
        *(
            ("pruner", {"type": "Pruner", "fraction": {"ratio": ratio}})
            for ratio in ("1e999999999", "1/0", "x", 5, "1_0/3", "9" * 5000)
        ),
        *(
            ("pruner", {"type": "Pruner", "score": "/../.."}),
            ("retraining", {"type": "Retraining", "weights": "..", "schedule": ".."}),
        ),
        *(("exclude", [["fc3"]]), ("exclude", "fc3"), ("unknown", 1), ("augmentation", [{"type": "Shift", "pixels": {}}])),
    ):
        yield of_config(f"{field} {value!r:.40}", lambda config, field=field, value=value: config.update({field: value}))

    for field, value in (
        *(
            ("train_accuracy", "<b>1</b>"),
            ("test_accuracy", float("nan")),
            ("test_accuracy", float("inf")),
            ("test_loss", float("nan")),
        ),
        *(
            ("sparsity", 7.0),
            ("sparsity", True),
            ("sparsity", 10**400),
            ("remaining", 1.5),
            ("seconds", None),
            ("level", True),
            ("level", 2),
        ),
        *(("epochs", []), ("epochs", None), ("unknown", "one"), ("clean_accuracy", [0.5])),
    ):
        yield of_line(f"{field} {value!r:.40}", lambda record, field=field, value=value: record["level"].update({field: value}))
    yield of_line("curves of different lengths", lambda record: record["level"]["epochs"]["epoch"].append(3))
    yield of_line(
        "curves of no points", lambda record: record["level"]["epochs"].update({key: [] for key in record["level"]["epochs"]})
    )
    yield of_line("a level that is a list", lambda record: record.update(level=[]))
    yield of_line("files out of the folder", lambda record: record["files"].update({"../../../x.safetensors": "0" * 64}))
    yield of_line("an absolute file", lambda record: record["files"].update({"/etc/passwd": "0" * 64}))
    yield of_line("files in a list", lambda record: record.update(files=["01.mask.safetensors"]))
    yield of_line("digests that are none", lambda record: record.update(files=dict.fromkeys(record["files"], 5)))
    yield of_line("one field more", lambda record: record.update(more=1))
    yield of_line("more levels than there are", lambda record: record["level"].update(level=3), number=3)
    yield (
        "levels.jsonl: deep",
        lambda folder: written(next(folder.rglob("levels.jsonl")), deep.encode()),
        lambda path: Store.open(path.parent).levels(),
    )

    def less(tensors: dict[str, torch.Tensor], content: Any) -> None:
        tensors.pop("fc1.weight")

    def other(tensors: dict[str, torch.Tensor], content: Any) -> None:
        tensors["fc1.weight"] = tensors["fc1.weight"].double()

    def larger(tensors: dict[str, torch.Tensor], content: Any) -> None:
        tensors["fc1.weight"] = torch.zeros(7, 7)

    for name, change in (("a weight less", less), ("another dtype", other), ("another shape", larger)):
        yield of_file(name, "start.safetensors", lambda path, change=change: resealed(path, change))
        for file in ("01.weights.safetensors", "01.momentum.safetensors"):
            yield of_file(
                name,
                file,
                lambda path, change=change: resealed(path, change),
                lambda path: redense(TOY, 1, path.parent.parent.parent, 0.5),
            )
        yield of_derived(name, "01.redense-1.safetensors", change)
    yield of_file(
        "a pickle",
        "01.weights.safetensors",
        lambda path: pickle.dumps(Payload()),
        lambda path: redense(TOY, 1, path.parent.parent.parent, 0.5),
    )
    yield of_file("of another net", "01.mask.safetensors", lambda path: Mask({"w": torch.ones(9, dtype=torch.bool)})._bytes())
    yield of_file("a rewinder", "01.mask.safetensors", lambda path: _files.seal("rewinder", {}, None))
    for file, name, change in (
        ("01.redense-1.safetensors", "no content", lambda tensors, content: 5),
        ("01.redense-1.safetensors", "no record", lambda tensors, content: {"of": content["of"]}),
        ("01.redense-1.safetensors", "HTML", lambda tensors, content: content["record"].update(factor="<b>")),
        ("01.redense-1.safetensors", "no curve", lambda tensors, content: content["record"]["dense"].update(test_loss=[])),
        ("01.redense-1.interpolation.safetensors", "no content", lambda tensors, content: 5),
        (
            "01.redense-1.interpolation.safetensors",
            "HTML",
            lambda tensors, content: content["lines"][0].update(name="<script>"),
        ),
        ("01.redense-1.interpolation.safetensors", "points", lambda tensors, content: content["lines"][0].update(alpha=[0.0])),
        (
            "01.redense-1.interpolation.safetensors",
            "NaN",
            lambda tensors, content: content["lines"][0]["train_loss"].append(float("nan")),
        ),
    ):
        yield of_derived(name, file, change)

    yield of_table("no UTF-8", lambda data: data.replace(b"smoke", b"\xff\xfe"))
    yield of_table("a huge field", lambda data: data.replace(b"smoke", b"s" * 200_000))
    yield of_table("a number of 5000 digits", lambda data: data.replace(b",50,", b"," + b"9" * 5000 + b","))
    yield of_table("a column twice", lambda data: data.replace(b"diverged\n", b"scale\n"))
    yield of_table("a field less", lambda data: data.replace(b",50,", b","))
    for value in (b"nan", b"inf", b"1e999", b"7", b"-0.5", b"<b>", b"0x1"):
        yield of_table(
            f"accuracy {value.decode()}",
            lambda data, value=value: data.replace(b"0.5,0.5,0.5,0.5", b"0.5," + value + b",0.5,0.5"),
        )
    yield of_table("a level that is no number", lambda data: data.replace(b"smoke,0,0", b"smoke,0,1e3"))


def main(folder: Path) -> None:
    """Print a line of JSON for each case: name, file, error, its type, seconds, and MB of memory."""
    whole = folder / "whole"
    for _ in zip(range(2), run(TOY, whole), strict=False):  # the third level is to be trained
        pass
    interpolation(TOY, 1, whole)
    tracemalloc.start()
    for name, make, read in cases():
        shutil.rmtree(folder / "case", ignore_errors=True)
        shutil.copytree(whole, folder / "case")
        path = make(folder / "case")
        tracemalloc.reset_peak()
        before, began = (
            (tracemalloc.get_traced_memory()[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss),
            time.perf_counter(),
        )
        error: BaseException | None = None
        try:
            read(path)
        except BaseException as caught:
            error = caught
        seconds = time.perf_counter() - began
        traced = (tracemalloc.get_traced_memory()[1] - before[0]) / 1e6
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1]) / 1e3
        kind = type(error).__name__ if error else None
        print(json.dumps([name, str(path), str(error), kind, seconds, max(traced, grown)]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
