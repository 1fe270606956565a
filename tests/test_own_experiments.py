"""Experiments with a score, a noise, a data set and a model of the user's own."""

import importlib
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from sparsedd import Pruner
from sparsedd.cli import main
from sparsedd.data import Data, blobs
from sparsedd.experiments import LTR, SCRATCH, Experiment, Store, redense, repair, run, run_all, verify
from sparsedd.experiments._task import Task
from sparsedd.models import initialize_
from sparsedd.noise import Given

MINE = """
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from sparsedd import Pruner
from sparsedd.data import blobs
from sparsedd.experiments import Experiment
from sparsedd.models import initialize_


def score(name, w, power=1):
    return (w * w.grad).abs() ** power


@dataclass(frozen=True)
class Next:
    every: int

    def __call__(self, labels, num_classes, seed):
        noisy = labels.clone()
        noisy[seed :: self.every] = (noisy[seed :: self.every] + 1) % num_classes
        return noisy


def points(n, shift=0.0):
    made = blobs(shape=(1, 3, 2), num_classes=4, train=n, test=20)
    made.train.tensors[0].add_(shift)
    return made


def net(*, in_features, num_classes, seed):
    hidden = nn.Linear(in_features, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2)
    return initialize_(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(12, num_classes)), seed)


tiny = Experiment(
    dataset=partial(points, n=40), model=net, exclude=(), noise=Next(4), pruner=Pruner(partial(score, power=2)),
    levels=3, epochs=2, batch_size=16,
)
fifth = replace(tiny, seed=5)
number = 3
"""
SPAWN = get_context("spawn")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module that lies in a folder of its own, as a user's does."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "code"), *sys.path])
    yield importlib.import_module("mine")
    del sys.modules["mine"]


def plain(records):
    return [replace(record, seconds=0.0) for record in records]


def sealed(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}


def alone(*arguments: str, code: str = "from sparsedd.cli import main; import sys; raise SystemExit(main(sys.argv[1:]))"):
    """Run the command where the module does not exist."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_an_experiment_of_ones_own_runs_and_goes_on_bit_for_bit(mine, tmp_path):
    whole = plain(run(mine.tiny, tmp_path / "whole"))
    assert [record.remaining for record in whole] == [120, 96, 76]  # 6 x 12 + 12 x 4
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = list(itertools.islice(run(mine.tiny, tmp_path / "parts"), 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)  # what dropout draws is of the level alone
    assert plain(first) == whole[:2]
    assert plain(run(mine.tiny, tmp_path / "parts")) == whole
    assert sealed(tmp_path / "parts") == sealed(tmp_path / "whole")


def test_the_noise_and_the_data_are_those_of_the_user(mine, tmp_path):
    [record, *_] = run(replace(mine.tiny, noise=mine.Next(1), epochs=1), tmp_path)
    assert record.clean_accuracy is None  # all labels are wrong
    [record, *_] = run(replace(mine.tiny, noise=mine.Next(100), epochs=1, seed=50), tmp_path)
    assert record.flipped_accuracy is None  # the 50th of 40


def test_worker_processes_import_it_and_give_what_this_process_gives(mine, tmp_path):
    experiments = [replace(mine.tiny, seed=seed) for seed in range(2)]
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        found = run_all(experiments, tmp_path / "pool", pool)
    assert list(found) == experiments
    for experiment in experiments:
        assert plain(found[experiment]) == plain(run(experiment, tmp_path / "here"))
    assert sealed(tmp_path / "pool") == sealed(tmp_path / "here")


def test_a_worker_that_has_other_data_is_an_error(mine, tmp_path):
    mine.points.__defaults__ = (0.5,)  # in this process alone
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool, pytest.raises(RuntimeError, match="returns other data here"):
        run_all([replace(mine.tiny, dataset=partial(mine.points, 40))], tmp_path, pool)


def test_the_key_holds_names_arguments_and_a_digest(mine):
    config = mine.tiny.config()
    assert config["noise"] == {"function": "mine:Next", "arguments": {"every": 4}}
    assert config["pruner"]["score"] == {"function": "mine:score", "arguments": {"power": 2}}
    assert config["model"] == {"function": "mine:net", "arguments": {}}
    digest = config["dataset"].pop("digest")
    assert config["dataset"] == {"function": "mine:points", "arguments": {"n": 40}} and len(digest) == 64
    assert mine.tiny.name == "points-net-Next-score-ltr"
    keys = {replace(mine.tiny, **change).key for change in (
        {}, {"noise": mine.Next(5)}, {"pruner": Pruner(partial(mine.score, power=3))}, {"pruner": Pruner(mine.score)},
        {"dataset": partial(mine.points, n=41)}, {"dataset": partial(mine.points, n=40, shift=0.0)},
    )}  # fmt: skip
    assert len(keys) == 6


def test_given_labels_stand_in_the_key_by_their_digest(mine, tmp_path):
    clean = mine.points(40).train.tensors[1]
    given = Given((clean + (torch.arange(40) < 10)) % 4, clean)
    experiment = replace(mine.tiny, noise=given)
    assert experiment.name == "points-net-given25-score-ltr"
    assert str(experiment.config()["noise"]).count("sha256:") == 2
    assert experiment == replace(mine.tiny, noise=Given(given.labels.clone(), clean))
    others = (Given(clean, clean), Given(given.labels), given)
    assert len({replace(mine.tiny, noise=noise).key for noise in others}) == 3
    assert replace(mine.tiny, noise=Given(clean)).name == "points-net-Given-score-ltr"
    task = Task(replace(experiment, train_size=20), "cpu")
    assert (task.flipped.sum(), task.flipped[:10].all()) == (10, True)
    part = replace(experiment, train_size=20, noise=Given(given.labels[:20], clean[:20]))
    assert torch.equal(Task(part, "cpu").flipped, task.flipped)
    late = clean.clone()
    late[30] = 3 - late[30]  # beyond the first 20, and compared
    with pytest.raises(ValueError, match="1 of 40 labels of the data set are not"):
        Task(replace(experiment, train_size=20, noise=Given(given.labels, late)), "cpu")
    records = list(run(experiment, tmp_path))
    read = Store.open(tmp_path / experiment.folder).experiment
    assert read == experiment
    assert list(run(experiment, tmp_path)) == records
    with pytest.raises(RuntimeError, match="nothing that a file names is imported"):
        Task(replace(read, dataset=experiment.dataset, model=experiment.model), "cpu")
    with pytest.raises(ValueError, match="10 of 40 labels of the data set are not"):
        Task(replace(experiment, noise=Given(clean, given.labels)), "cpu")
    with pytest.raises(ValueError, match="given labels belong to their data set"):
        Experiment(noise=given).scaled("smoke")


def test_partials_are_equal_by_what_they_hold(mine):
    same = replace(mine.tiny, dataset=partial(mine.points, n=40), pruner=Pruner(partial(mine.score, power=2)))
    assert same == mine.tiny and hash(same) == hash(mine.tiny) and len({same, mine.tiny}) == 1
    assert pickle.loads(pickle.dumps(same)) == mine.tiny
    assert replace(same, pruner=Pruner(partial(mine.score, power=3))) != mine.tiny


def test_other_data_under_the_same_name_are_another_experiment(mine, tmp_path):
    before = list(run(mine.tiny, tmp_path))
    source = tmp_path / "code" / "mine.py"
    source.write_text(MINE.replace("shift=0.0", "shift=0.25"))
    importlib.invalidate_caches()
    del sys.modules["mine"]
    changed = importlib.import_module("mine").tiny
    assert changed.name == mine.tiny.name and changed.folder != mine.tiny.folder and changed != mine.tiny
    assert Store(tmp_path, changed).levels() == []
    assert plain(run(changed, tmp_path)) != plain(before)


def edit(folder: Path, before: str, after: str):
    """Change the module, and import it again."""
    source = folder / "code" / "mine.py"
    source.write_text(source.read_text().replace(before, after))
    importlib.invalidate_caches()
    del sys.modules["mine"]
    return importlib.import_module("mine")


def test_a_function_that_has_changed_is_noticed_and_one_that_has_not_is_not(mine, tmp_path):
    before = plain(run(mine.tiny, tmp_path))
    config = Store(tmp_path, mine.tiny).path / "config.json"
    assert json.loads(config.read_text())["sources"].keys() == {"mine:net", "mine:Next", "mine:score"}
    other = edit(tmp_path, "number = 3", "number = 4").tiny
    assert plain(run(other, tmp_path)) == before  # any warning is an error here
    changed = edit(tmp_path, ".abs() **", ".abs() + 1 **").tiny
    with pytest.warns(UserWarning, match=r"mine:score has changed since .* was begun.*take another name or folder"):
        assert plain(run(changed, tmp_path)) == before
    plainly = {name: value for name, value in json.loads(config.read_text()).items() if name != "sources"}
    config.write_text(json.dumps(plainly, indent=2) + "\n")  # as it was written before there were any
    assert plain(run(changed, tmp_path)) == before and Store.open(config.parent).experiment == mine.tiny


def test_data_that_are_other_ones_each_time_are_noticed(tmp_path, monkeypatch):
    experiment = Experiment(dataset=drifting, epochs=1, levels=1)
    assert experiment.key
    monkeypatch.setattr("sparsedd.experiments._own._loaded", {})
    with pytest.raises(RuntimeError, match="drifting returns other data here .*the same each time"):
        list(run(experiment, tmp_path))


COUNT = itertools.count()


def drifting():
    return blobs(seed=next(COUNT))


def test_reading_imports_nothing(mine, tmp_path):
    out = tmp_path / "out"
    list(run(mine.tiny, out / "runs"))
    done = alone("verify", str(out))
    assert done.returncode == 0 and "ok, 3 of 3 levels" in done.stdout, done.stderr
    done = alone("report", str(out))
    assert done.returncode == 0, done.stderr
    assert "points-net-Next-score-ltr" in (out / "levels.csv").read_text()
    page = (out / "report.html").read_text()
    assert "mine:points(n=40)" in page
    done = alone(str(Store(out / "runs", mine.tiny).path), str(out / "runs"), code=READ)
    assert done.returncode == 0, done.stderr
    config = Store(out / "runs", mine.tiny).path / "config.json"
    assert Store.open(config.parent).experiment == mine.tiny
    text = config.read_text()
    for name in ("os:system", "mine:score; import os", 3):
        config.write_text(json.dumps(json.loads(text) | {"noise": {"function": name, "arguments": {"0": "touch pwned"}}}))
        assert not any(finding.ok for finding in verify(out / "runs"))
    assert not Path("pwned").exists()


READ = """
import sys
from pathlib import Path
from sparsedd.experiments import Store, run
store = Store.open(sys.argv[1])
assert store.experiment.folder == "/".join(Path(sys.argv[1]).parts[-2:]) and "mine" not in sys.modules
levels = list(run(store.experiment, sys.argv[2]))  # all are there
assert len(levels) == 3
from dataclasses import replace
try:
    next(run(replace(store.experiment, seed=9), sys.argv[2]))
except RuntimeError as error:
    assert "a function of your own" in str(error) and "sparsedd run FILE.py:NAME" in str(error), error
else:
    raise AssertionError("it ran")
"""


def test_repair_needs_the_experiment_and_says_so(mine, tmp_path):
    list(run(mine.tiny, tmp_path))
    before, store = sealed(tmp_path), Store(tmp_path, mine.tiny)
    store.weights_path(1).write_bytes(b"")
    done = alone("verify", "--repair", str(tmp_path))
    assert done.returncode == 1 and "could not be repaired: it has " in done.stdout and "mine:score" in done.stdout
    assert store.weights_path(1).read_bytes() == b""
    assert all(finding.ok for finding in repair(tmp_path, [mine.tiny]))
    assert sealed(tmp_path) == before


def test_new_weights_come_from_the_users_function(mine, tmp_path):
    scratch = replace(mine.tiny, retraining=SCRATCH)
    whole = plain(run(scratch, tmp_path / "a"))
    assert whole != plain(run(mine.tiny, tmp_path / "a"))
    list(itertools.islice(run(scratch, tmp_path / "b"), 1))
    assert plain(run(scratch, tmp_path / "b")) == whole
    assert [r.remaining for r in run(mine.tiny.reinitialized(), tmp_path / "a")] == [120, 96, 76]
    with pytest.raises(ValueError, match="seedless takes no seed to draw them by"):
        list(run(replace(scratch, model=seedless), tmp_path / "c"))


def test_what_is_made_of_levels_works_too(mine, tmp_path):
    assert redense(mine.tiny, 1, tmp_path).dense.epoch == (3, 4)


# ---------------------------------------------------------------- wrong use


def seedless(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, num_classes))


def shifting(in_features, num_classes, seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, num_classes))


def greedy(in_features, num_classes, seed, depth):
    raise AssertionError("never called")


def wide(in_features, seed, width=50, initialization=None):
    assert initialization is None
    return initialize_(nn.Sequential(nn.Flatten(), nn.Linear(in_features, int(width)), nn.Linear(int(width), 10)), seed)


def narrow(in_features, seed, width):
    return wide(in_features, seed, int(width * 8))


def broken(num_classes, seed):
    return {}["depth"]


def short(in_features, seed):
    return initialize_(nn.Sequential(nn.Flatten(), nn.Linear(in_features, 2)), seed)


def no_data():
    return torch.zeros(3)


def doubles():
    made = blobs(train=10, test=10)
    train, test = (TensorDataset(part.tensors[0].double(), part.tensors[1]) for part in (made.train, made.test))
    return Data(train, test, made.num_classes)


def noise(labels, num_classes, seed):
    return labels


@dataclass
class Thawed:
    rate: float = 0.1

    def __call__(self, labels: Tensor, num_classes: int, seed: int) -> Tensor:
        return labels


class Scores:
    def score(self, name, w):
        return w


def in_main():
    pass


in_main.__module__ = "__main__"


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        (lambda: {"noise": lambda labels, num_classes, seed: labels}, ValueError, "noise can't be a lambda, got"),
        (lambda: {"pruner": Pruner(lambda name, w: w)}, ValueError, "the score of .* can't be a lambda"),
        (lambda: {"dataset": partial(lambda: 1)}, ValueError, "dataset can't be a lambda"),
        (lambda: {"model": type("Net", (nn.Module,), {})}, ValueError, "model can't be .*something else"),
        (lambda: {"pruner": Pruner(Scores().score)}, TypeError, "must be a function, or a frozen .*got <bound method"),
        (lambda: {"pruner": Pruner(Scores.__call__)}, TypeError, "must be a function"),
        (lambda: {"noise": Thawed()}, TypeError, "must be a frozen dataclass that can be called, got Thawed"),
        (lambda: {"noise": Thawed}, TypeError, "a function, one of sparsedd.noise or None, got <class"),
        (lambda: {"dataset": in_main}, ValueError, "a script that is run itself.*sparsedd run FILE.py:NAME"),
        (lambda: {"noise": partial(noise, weights={1, 2})}, TypeError, "weights of an experiment's noise must be JSON"),
        (lambda: {"noise": partial(noise, by=lambda x: x)}, ValueError, "by of an experiment's noise can't be a lambda"),
    ],
)  # fmt: skip
def test_what_has_no_name_is_refused_with_the_reason(made, error, says):
    with pytest.raises(error, match=says):
        Experiment(**made())


def test_what_is_defined_in_a_function_is_refused():
    def local(labels, num_classes, seed):
        return labels

    with pytest.raises(ValueError, match=r"made inside of a function, got .*local.*at the top of a module"):
        Experiment(noise=local)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": shifting}, ValueError, "shifting must return the same weights each time .*let it take seed"),
        ({"model": greedy}, TypeError, "greedy can be called with .*missing a required argument: 'depth'"),
        ({"model": short}, ValueError, r"short must return logits \(b, 10\).*got \(2, 2\)"),
        ({"model": noise}, TypeError, "missing a required argument: 'labels'"),
        ({"model": broken}, RuntimeError, r"broken\(num_classes=10, seed=0\) raised KeyError: 'depth'"),
        ({"model": short, "width": 0.5}, ValueError, "short takes no width, and the experiment has width=0.5"),
        ({"model": no_data}, TypeError, "no_data returns must be a torch.nn.Module"),
        ({"dataset": no_data}, TypeError, "no_data returns must be a sparsedd.data.Data"),
        ({"dataset": doubles}, ValueError, "doubles must return inputs in float32, got torch.float64"),
    ],
)
def test_functions_that_return_something_else(change, error, says, tmp_path):
    experiment = replace(Experiment(dataset="blobs", exclude=(), levels=1, epochs=1), **change)
    with pytest.raises(error, match=says):
        list(run(experiment, tmp_path))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("model", "width", "hidden"), [(wide, 1.0, 50), (wide, 20, 20), (narrow, 1.0, 8), (narrow, 0.5, 4)])
def test_a_default_of_the_experiment_takes_no_default_of_the_function_away(model, width, hidden):
    experiment = Experiment(dataset="digits", model=model, width=width, exclude=())
    assert Task(experiment, "cpu").original[1].out_features == hidden


def test_scaling_leaves_what_is_the_users_as_it_is(mine):
    smoke = mine.tiny.scaled("smoke")
    assert (smoke.dataset, smoke.model, smoke.width) == (mine.tiny.dataset, mine.tiny.model, 1.0)
    assert (smoke.train_size, smoke.epochs, smoke.levels) == (100, 2, 3)
    assert mine.tiny.scaled("small") == replace(mine.tiny, scale="small")


# ---------------------------------------------------------------- the command


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A file that the command loads; what it leaves in this process is taken back."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "mine.py"
    sys.modules.pop("mine", None)


def test_run_takes_a_file_and_a_name_and_shares_the_work(script, tmp_path, capfd):
    command = ["run", f"{script}:tiny", "--seeds", "2", "--processes", "2", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capfd.readouterr().out
    assert said.startswith("points-net-Next-score-ltr, paper scale: 3 levels × 2 seeds")
    stores = [Store.open(path.parent) for path in sorted(tmp_path.rglob("config.json"))]
    assert [len(store.levels()) for store in stores] == [3, 3]
    table = (tmp_path / "out" / "levels.csv").read_bytes()
    assert main(["run", "mine:tiny", *command[2:]]) == 0  # the module in this folder: the same experiment
    assert (tmp_path / "out" / "levels.csv").read_bytes() == table, "nothing is computed twice"


def test_run_changes_what_the_options_say(script, tmp_path, capfd):
    options = ["--noise", "symmetric:0.4", "--score", "random", "--one-shot"]
    assert main(["run", "mine.py:fifth", *options, "--out", "out"]) == 0
    [config] = Path("out").rglob("config.json")
    found = Store.open(config.parent).experiment
    assert found.name == "points-net-symmetric40-random-oneshot-ltr" and found.seed == 5


def test_a_figure_on_data_and_net_of_ones_own(script, tmp_path, capfd):
    assert main(["figure", "5", "--on", "mine.py:tiny", "--seeds", "1", "--processes", "1", "--out", "out"]) == 0
    said = capfd.readouterr().out
    assert "Figure 5 on points" in said
    experiments = {Store.open(path.parent).experiment for path in Path("out").rglob("config.json")}
    assert {str(e.dataset) for e in experiments} == {"points"} and {e.levels for e in experiments} == {3}


WRONG = """
def flat(name, w):
    return w.detach().flatten()

unfit = replace(tiny, exclude=("fc3",))
shapeless = replace(tiny, pruner=Pruner(flat))
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [("unfit", "matches no prunable parameter.*: pass exclude=()"), ("shapeless", "shape")],
)
def test_a_dry_run_fails_as_the_run_would(script, capfd, name, says):
    script.write_text(MINE + WRONG)
    for more in (["--dry-run"], []):
        assert main(["run", f"mine.py:{name}", "--processes", "1", "--out", "out", *more]) == 1
        said = capfd.readouterr().err
        assert re.search(says, said) and said.count("\n") == 1
        assert not more or not os.path.exists("out")
    assert main(["run", "mine.py:tiny", "--out", "other", "--dry-run"]) == 0
    assert not os.path.exists("other")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("gone.py:tiny", "there is no file gone.py"),
        ("gone:tiny", "there is no module gone: pass FILE.py:NAME"),
        ("mine.py:gone", "mine.py has no 'gone': mine.py:gone must name an Experiment in it"),
        ("mine.py:net", "mine.py:net is a function: call it in mine.py"),
        ("mine.py:number", "mine.py:number must be an Experiment, got 3 of type int"),
        ("broken.py:tiny", "broken.py can't be imported: ValueError: an experiment's noise can't be a lambda"),
        ("torn.py:tiny", "torn.py can't be imported: SyntaxError"),
        ("ends.py:tiny", "ends.py can't be imported: SystemExit: 0"),
        ("my-file.py:tiny", "my-file.py can't be imported under the name 'my-file'"),
        ("json.py:tiny", "json.py has the name of another module"),
    ],
)
def test_what_can_not_be_loaded_is_one_line(script, named, says, capsys):
    Path("broken.py").write_text(f"{MINE}\nx = Experiment(noise=lambda labels, num_classes, seed: labels)\n")
    Path("torn.py").write_text("def")
    Path("ends.py").write_text("raise SystemExit(0)")
    for name in ("my-file.py", "json.py"):
        Path(name).write_text(MINE)
    assert main(["run", named, "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert says in said and said.startswith("sparsedd: ") and said.count("\n") == 1
    assert not os.path.exists("out")


@pytest.mark.parametrize("command", [["run", "mine", "--out", "x"], ["figure", "5", "--on", "mine"]])
def test_a_name_that_is_no_preset_ends_with_usage(command, capsys):
    with pytest.raises(SystemExit):
        main(command)
    assert "invalid choice: 'mine' (choose from lenet-digits" in capsys.readouterr().err


def test_built_in_experiments_are_what_they_were():
    assert Experiment().key == Experiment.from_config(Experiment().config()).key
    assert "function" not in json.dumps(Experiment().config())
    assert replace(Experiment(), retraining=LTR) == Experiment()
