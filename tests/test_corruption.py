"""Damage is found, named and mended, and nothing else is touched; what was written on purpose is refused at once."""

import ast
import json
import random
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from crafted import TOY
from torch import nn

import sparsedd
from sparsedd import Mask, Rewinder
from sparsedd.cli import main
from sparsedd.experiments import (
    Store,
    _task,
    directions,
    interpolation,
    redense_weights,
    reinit,
    repair,
    run,
    verify,
)

SRC = Path(sparsedd.__file__).parent
LINES = "levels.jsonl"
READERS: dict[str, Callable[[Store], object]] = {
    "config.json": lambda store: Store.open(store.path),
    LINES: lambda store: store.levels(),
    "start.safetensors": lambda store: store.start(),
    "01.weights.safetensors": lambda store: store.weights(1),
    "01.mask.safetensors": lambda store: store.mask(1),
    "01.momentum.safetensors": lambda store: store.momentum(1),
    "01.redense-1.safetensors": lambda store: redense_weights(TOY, 1, store.path.parent.parent),
    "01.redense-1.interpolation.safetensors": lambda store: interpolation(TOY, 1, store.path.parent.parent),
    "01.redense-1.directions.safetensors": lambda store: directions(TOY, 1, store.path.parent.parent),
    "a.mask.safetensors": lambda store: Mask.load(store.path / "a.mask.safetensors"),
    "a.rewinder.safetensors": lambda store: Rewinder.load(store.path / "a.rewinder.safetensors"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with every kind of file."""
    out = tmp_path_factory.mktemp("whole")
    list(run(TOY, out))
    list(reinit(TOY, out))
    interpolation(TOY, 1, out)
    directions(TOY, 1, out)
    model = nn.Linear(5, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(5)).sum().backward()
    optimizer.step()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    Mask.dense(model).save(Store(out, TOY).path / "a.mask.safetensors")
    Rewinder(model=model, optimizer=optimizer, plateau=plateau).save(Store(out, TOY).path / "a.rewinder.safetensors")
    assert all(path.stat().st_size < 20_000 for path in out.rglob("*.*"))
    return out


@pytest.fixture
def out(whole, tmp_path):
    """A copy of it."""
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


def contents(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}


def detected(store: Store, name: str, data: bytes) -> bool:
    """Is the file, with this content, refused by name by what reads it, or by verify?"""
    (store.path / name).write_bytes(data)
    try:
        READERS[name](store)
    except ValueError as error:
        return str(store.path / name) in str(error)
    return any(not finding.ok and finding.path.name == name for finding in verify(store.path))


def test_a_configuration_hides_no_damaged_mask(tmp_path, out):
    """Neither somebody else's, beside masks of a loop of one's own, nor one of ours that is damaged."""
    mine = tmp_path / "mine" / "seed-0"
    for folder in (mine, store := Store(out, TOY).path):
        folder.mkdir(parents=True, exist_ok=True)
        Mask.dense(nn.Linear(5, 3)).save(folder / "mine.safetensors")
        (folder / "config.json").write_text(json.dumps({"hidden_size": 768}))
    assert [(found.path.name, found.ok) for found in verify(mine)] == [("mine.safetensors", True)]
    for folder in (mine, store):
        data = (folder / "mine.safetensors").read_bytes()
        (folder / "mine.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [(found.path.name, found.ok) for found in verify(mine)] == [("mine.safetensors", False)]
    assert [(found.path.name, found.ok) for found in verify(store)] == [("config.json", False), ("mine.safetensors", False)]
    assert [found.path.name for found in repair(store)] == ["config.json", "mine.safetensors"]


# ---------------------------------------------------------------- damage


def truncations(out: Path, name: str, every: int) -> int:
    """Cut the file at every place, or some, and see that it is found; how many were tried."""
    store = Store(out, TOY)
    original = (store.path / name).read_bytes()
    places = [n for n in range(len(original)) if n % every == 0 or n < 16 or len(original) - n < 16]
    for n in places:
        if name == LINES and (n == 0 or original[n - 1 : n] == b"\n"):  # the state of a run that was stopped there
            (store.path / name).write_bytes(original[:n])
            assert len(store.levels()) == original[:n].count(b"\n")
        else:
            assert detected(store, name, original[:n]), f"{name} cut at byte {n}"
    return len(places)


def flips(out: Path, name: str, count: int) -> int:
    """Flip random bits, one at a time, and see that each is found."""
    store, draw = Store(out, TOY), random.Random(name)
    original = (store.path / name).read_bytes()
    for place in (draw.randrange(8 * len(original)) for _ in range(count)):
        data = bytearray(original)
        data[place // 8] ^= 1 << place % 8
        assert detected(store, name, bytes(data)), f"{name}, bit {place}"
    return count


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_was_cut_is_found(out, name):
    assert truncations(out, name, every=29) > 30


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_found(out, name):
    flips(out, name, 182)  # 2,002 in all


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_was_cut_anywhere_is_found(out, name):
    print(f"\n{name}: {truncations(out, name, every=1)} truncations found")


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_each_of_2000_flipped_bits_is_found(out, name):
    print(f"\n{name}: {flips(out, name, 2000)} flips found")


def test_every_bit_of_a_line_matters(out):
    """Also those that JSON does not see: the case of an exponent, spaces, line ends, the order of keys."""
    store = Store(out, TOY)
    original = (store.path / LINES).read_bytes()
    for old, new in (
        (b"e-0", b"E-0"),
        (b": ", b":  "),
        (b"\n", b"\x0b"),
        (b"\n", b"\r\n"),
        (b'{"level"', b'{"files": {}, "level"'),
    ):
        if old in original:
            assert detected(store, LINES, original.replace(old, new, 1)), old
    record = json.loads(original.splitlines()[0])
    swapped = json.dumps(dict(reversed(record.items())))
    assert detected(store, LINES, original.replace(original.splitlines()[0], swapped.encode()))


def test_a_table_that_can_not_be_read_is_found(out, capsys):
    table = out / "levels.csv"
    table.write_text("experiment,scale\n")
    assert [finding.path for finding in verify(out) if not finding.ok] == [table]
    assert main(["verify", str(out)]) == 1
    assert f"{table} has no column" in capsys.readouterr().out


# ---------------------------------------------------------------- repair


@pytest.fixture
def computed(monkeypatch):
    """(experiment, level) of all that is trained."""
    seen = []
    original = _task.Task.retrain

    def retrain(self, level, model):
        seen.append((self.experiment, level.number))
        return original(self, level, model)

    monkeypatch.setattr(_task.Task, "retrain", retrain)
    return seen


@pytest.mark.parametrize("name", [name for name in READERS if name[0] in "01s"])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_only_the_damaged_level_is_computed_again(out, computed, name, damage):
    store, before = Store(out, TOY), contents(out)
    path = store.path / name
    data = before[path]
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-9] if damage == "cut" else data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
    elif "redense" in name:
        return  # it is made when it is wanted
    if "redense" not in name or damage != "gone":
        assert [finding.path for finding in verify(out) if not finding.ok] == [path]
    assert all(finding.ok for finding in repair(out))
    level = 0 if name.startswith("start") else 1
    assert computed == ([] if "redense" in name else [(TOY, level)])
    after = contents(out)
    assert after.keys() == before.keys()
    changed = {p.name for p in before if after[p] != before[p]}
    assert changed <= ({name} if name == "01.redense-1.safetensors" else set()), "but for the seconds that it took"


@pytest.mark.parametrize("level", range(TOY.levels))
def test_a_line_is_written_again_and_no_other(out, computed, level):
    store, before = Store(out, TOY), contents(out)
    lines = before[store.path / LINES].splitlines(keepends=True)
    (store.path / LINES).write_bytes(b"".join(lines[:level]) + lines[level][:-10] + b"\n" + b"".join(lines[level + 1 :]))
    (finding,) = [finding for finding in verify(out) if not finding.ok]
    assert f"no whole line for level {level}. To compute it again: sparsedd verify --repair" in str(finding)
    assert all(finding.ok for finding in repair(out))
    assert computed == [(TOY, level)]
    after = contents(out)
    now = after.pop(store.path / LINES).splitlines(keepends=True)
    assert [a == b for a, b in zip(now, lines, strict=True)] == [k != level for k in range(TOY.levels)]
    assert after.items() <= before.items()


def test_lines_that_ran_together_or_out_of_turn_are_found(out, computed):
    path = Store(out, TOY).path / LINES
    original = path.read_bytes()
    a, b, c = original.splitlines(keepends=True)
    for damaged, lost in ((a + c + b, []), (a + b + b + c, []), (a + b + c[:-1], []), (a + b[:-1] + c, [1]), (b"", [0, 1])):
        path.write_bytes(damaged)
        computed.clear()
        assert not all(finding.ok for finding in verify(out))
        assert all(finding.ok for finding in repair(out))
        assert [number for _, number in computed] == lost
        assert [level.level for level in run(TOY, out)] == [0, 1, 2]
        path.write_bytes(original)


def test_tickets_are_mended_before_those_who_take_them(out, computed):
    other = TOY.reinitialized()
    before = contents(out)
    for experiment in (other, TOY):
        (Store(out, experiment).path / "01.mask.safetensors").unlink()
    assert all(finding.ok for finding in repair(out))
    assert computed == [(TOY, 1), (other, 1)]
    assert contents(out) == before


def test_a_level_that_comes_out_otherwise_takes_nobodys_place(out, monkeypatch, capsys):
    monkeypatch.setattr(_task, "train", lambda *a, train=_task.train, **k: _bent(train(*a, **k), a[0].model))
    Store(out, TOY).weights_path(1).unlink()
    before = contents(out)
    assert main(["verify", str(out), "--repair"]) == 1
    assert "level 1 came out otherwise here" in capsys.readouterr().out
    assert contents(out) == before


def _bent(curves, model):
    with torch.no_grad():
        next(model.parameters()).mul_(1 + 1e-6)
    return curves


def test_a_damaged_configuration_can_be_removed_and_nothing_is_computed(out, computed, capsys):
    path = Store(out, TOY).path / "config.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"60", b"61"))
    assert main(["verify", str(out), "--repair"]) == 1
    assert f"{path} is not the configuration of an experiment" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"config\.json .* Restore it, or remove it and run again: what was computed stays"):
        list(run(TOY, out))
    path.unlink()
    assert main(["verify", str(out)]) == 1
    assert f"{path} is missing: restore it, or run the experiment again" in capsys.readouterr().out
    assert len(list(run(TOY, out))) == TOY.levels
    with Store(out, TOY).locked():
        assert path.read_bytes() == whole
    assert not computed


# ---------------------------------------------------------------- the command


def test_verify_says_a_line_for_each_experiment_and_exits_with_0(out, capsys):
    assert main(["verify", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert all(": ok, 3 of 3 levels, " in line for line in printed)
    assert main(["verify", str(Store(out, TOY).mask_path(0))]) == 0
    assert capsys.readouterr().out.endswith("00.mask.safetensors: ok\n")


def test_a_run_that_was_stopped_is_well(out, capsys):
    shutil.rmtree(out)
    for _ in zip(range(2), run(TOY, out), strict=False):
        pass
    lines = Store(out, TOY).path / LINES
    lines.write_bytes(lines.read_bytes().splitlines(keepends=True)[0])  # it was stopped just before level 1 counted
    assert main(["verify", str(out)]) == 0
    assert ": ok, 1 of 3 levels" in capsys.readouterr().out


def test_verify_exits_with_1_where_something_is_damaged_and_2_where_there_is_nothing(out, tmp_path, capsys):
    path = Store(out, TOY).momentum_path(2)
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", str(out)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{path} is damaged or altered. To compute it again: sparsedd verify --repair {path.parent}"
    assert main(["verify", "--repair", str(out)]) == 0
    (tmp_path / "empty").mkdir()
    for nothing, why in (("empty", "holds nothing to verify"), ("absent", "does not exist")):
        assert main(["verify", str(tmp_path / nothing)]) == 2
        assert why in capsys.readouterr().err


def test_the_help_of_verify_shows_how(capsys):
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    printed = capsys.readouterr().out
    assert "sparsedd verify demo --repair" in printed
    assert "2 there is nothing to verify" in printed


# ---------------------------------------------------------------- malice


def test_crafted_files_are_refused_at_once_by_name_and_cost_nothing(tmp_path):
    command = [sys.executable, "-W", "error", Path(__file__).parent / "crafted.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > 150
    for name, path, error, kind, seconds, megabytes in found:
        assert kind == "ValueError", f"{name}: {kind}: {error}"
        assert path in error, name
        assert seconds < 1, name
        assert megabytes < 100, name
    assert not (tmp_path / "loaded").exists(), "a pickle was loaded"


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "holes": lambda whole: b"",
    "noise": lambda whole: random.Random(0).randbytes(5000),
    "a header without an end": lambda whole: b"\xff" * 8 + whole[8:],
    "a header of 500 MB": lambda whole: (500_000_000).to_bytes(8, "little") + whole[8:],
    "a header of holes": lambda whole: (2_000_000).to_bytes(8, "little") + whole[8:],
    "a mask, then holes": lambda whole: whole,
    "a cut header, then holes": lambda whole: whole[:100],
    "a tensor that ends elsewhere": lambda whole: whole.replace(b'"data_offsets":[0,2]', b'"data_offsets":[0,9]'),
    "a tensor that ends nowhere": lambda whole: whole.replace(b'"data_offsets":[0,2]', b'"data_offsets":[0,{}'),
    "a tensor that ends in a word": lambda whole: whole.replace(b'"data_offsets":[0,2]', b'"data_offsets":[0,""'),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("load", [Mask.load, Rewinder.load])
def test_a_large_file_that_is_not_ours_is_not_read(tmp_path, garbage, load):
    path = tmp_path / "a.safetensors"
    Mask({"w": torch.ones(3, 5, dtype=torch.bool)}).save(path)
    enlarge(path, GARBAGE[garbage](path.read_bytes()))
    with (
        pytest.raises(ValueError, match=r"carries no seal|tells another size than it has\. Restore it") as caught,
        little_memory(),
    ):
        load(path)
    assert str(path) in str(caught.value)


def enlarge(path, data):
    """Data, and then nothing, up to 600 MB, which take no place on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(600_000_000)


@contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000


def test_a_file_of_a_level_is_hashed_in_pieces(out):
    path = Store(out, TOY).weights_path(1)
    enlarge(path, path.read_bytes())
    with little_memory():
        with pytest.raises(ValueError, match="01.weights.safetensors is missing, damaged or altered"):
            Store(out, TOY).weights(1)
        assert [finding.path for finding in verify(out) if not finding.ok] == [path]


FORBIDDEN = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "code"}


def executes(tree: ast.AST) -> list[str]:
    """What a syntax tree has that could run what a file says."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += sorted(names & {"torch.load", "torch.jit", "torch.hub", "torch.package"})
            found += [str(node.module)] * (str(node.module).split(".")[0] in FORBIDDEN)
        elif isinstance(node, ast.Name) and node.id in {"eval", "exec", "__import__"}:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.jit.load", "torch.hub.load"}:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"np.load", "numpy.load"}:
            allowed = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("allow_pickle")
            found += ["np.load"] * (allowed != "False")
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_nothing_in_the_library_runs_what_a_file_says(path):
    assert executes(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from pickle import loads", "import yaml.loader", "eval('1')", "builtins = exec", "torch.load(p)"),
        *("from torch import load", "np.load(p)", "np.load(p, allow_pickle=True)", "__import__('x')", "import marshal as m"),
    ],
)
def test_what_runs_what_a_file_says_would_be_seen(code):
    assert executes(ast.parse(code))
