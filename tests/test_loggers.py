"""Loggers: what is logged is what was measured, whatever goes wrong on the way."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_tables import LEVELS

from sparsedd.experiments import Experiment, run
from sparsedd.loggers import Logger, TensorBoard, Wandb, logged


class Recording:
    """A logger that remembers, and fails where it is told to."""

    def __init__(self, fails: tuple[Any, ...] = ()) -> None:
        self.calls: list[Any] = []
        self.fails = fails

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.fails or (call[0] == "log" and call[2] in self.fails):
            raise OSError(f"no more {call[0]}")

    def begin(self, config: Any) -> None:
        self._called("begin", config)

    def log(self, values: Any, step: int) -> None:
        self._called("log", values, step)

    def finish(self) -> None:
        self._called("finish")

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def fake(required: tuple[str, ...] = ()) -> Any:
    """A module of the shape of wandb's and trackio's: init(project, name, config, ...) -> a run with config, log and finish."""

    class Run:
        def __init__(self, config: dict[str, Any] | None) -> None:
            self.config: dict[str, Any] = {} if config is None else config
            self.logged: list[tuple[dict[str, Any], int | None]] = []
            self.finished = 0

        def log(self, data: dict[str, Any], step: int | None = None) -> None:
            assert type(data) is dict
            assert not self.finished
            assert step is None or all(step > last for _, last in self.logged)  # wandb drops what comes late
            self.logged.append((data, step))

        def finish(self) -> None:
            self.finished += 1

    def init(project: str | None = None, name: str | None = None, config: dict[str, Any] | None = None) -> Run:
        assert project is not None or "project" not in required  # trackio's has no default
        module.runs.append(Run(config))
        module.arguments.append({"project": project, "name": name})
        return module.runs[-1]

    module = SimpleNamespace(__name__="trackio", init=init, log=None, finish=None, runs=[], arguments=[])
    return module


# ---------------------------------------------------------------- what comes through, and what is logged


def test_a_run_is_logged_and_is_the_same_run(tmp_path):
    experiment, logger = Experiment().scaled("smoke"), Recording()
    levels = list(logged(run(experiment, tmp_path / "logged"), logger, experiment.config()))
    plain = list(run(experiment, tmp_path / "plain"))
    assert [a.to_json() | {"seconds": 0} for a in levels] == [b.to_json() | {"seconds": 0} for b in plain]
    assert logger.names == ["begin", "log", "log", "log", "finish"]
    assert json.loads(json.dumps(logger.calls[0][1])) == experiment.config()
    for (_, values, step), level in zip(logger.calls[1:-1], levels, strict=True):
        assert step == level.level
        measures = {
            name: value for name, value in level.to_json().items() if name not in ("level", "epochs") and value is not None
        }
        assert values == measures
    again = Recording()
    assert list(logged(run(experiment, tmp_path / "logged"), again, experiment.config())) == levels  # resumed, logged in full
    assert again.calls == logger.calls


@given(st.lists(LEVELS, max_size=4))
def test_every_level_comes_through_and_every_number_is_finite(levels):
    logger = Recording()
    assert list(logged(levels, logger)) == levels
    assert logger.names == ["begin", *["log"] * len(levels), "finish"]
    for (_, values, step), level in zip(logger.calls[1:-1], levels, strict=True):
        assert step == level.level
        assert all(type(value) in (int, float) and math.isfinite(value) for value in values.values())
        none = {name for name, value in level.to_json().items() if value is None}
        assert {"level", "epochs", *none} | set(values) == set(level.to_json())


def test_records_of_ones_own_loop():
    logger = Recording()
    mine = [
        {"level": 3, "sparsity": np.float32(0.5), "loss": math.nan, "model": "mine", "best": True, "key": 10**400},
        {"sparsity": torch.tensor(0.75), "loss": -math.inf, "remaining": np.int64(7), "curve": [1.0], "gap": None},
    ]
    assert list(logged(iter(mine), logger)) == mine
    assert logger.calls[0] == ("begin", {})
    assert logger.calls[1:3] == [
        ("log", {"sparsity": 0.5, "best": 1}, 3),
        ("log", {"sparsity": 0.75, "remaining": 7}, 1),
    ]
    assert all(type(value) in (int, float) for _, values, _ in logger.calls[1:3] for value in values.values())


def test_nothing_begins_before_the_first_level_is_asked_for():
    logger = Recording()
    levels = logged([{"a": 1}], logger)
    assert logger.calls == []
    next(levels)
    assert logger.names == ["begin", "log"]


# ---------------------------------------------------------------- whatever goes wrong, it finishes


def broken(error: BaseException) -> Any:
    yield {"a": 1}
    raise error


@pytest.mark.parametrize("error", [ValueError("diverged"), KeyboardInterrupt()])
def test_an_error_of_the_run_finishes_the_logger_and_passes(error):
    logger = Recording()
    with pytest.raises(type(error)) as caught:
        list(logged(broken(error), logger))
    assert caught.value is error
    assert logger.names == ["begin", "log", "finish"]


def test_leaving_the_loop_finishes_the_logger_and_the_run():
    logger, ended = Recording(), []

    def levels() -> Any:
        try:
            yield from ({"a": k} for k in range(9))
        finally:
            ended.append(True)

    for level in logged(levels(), logger):
        if level["a"] == 2:
            break
    assert logger.names == ["begin", "log", "log", "log", "finish"]
    assert ended == [True]


def test_an_error_of_the_logger_says_where_and_the_level_is_stored(tmp_path):
    experiment, logger, seen = Experiment().scaled("smoke"), Recording(fails=(1,)), []
    with pytest.raises(OSError, match="no more log") as caught:
        seen.extend(logged(run(experiment, tmp_path), logger))
    assert caught.value.__notes__ == ["The logger raised this at level 1, which itself has finished."]
    assert logger.names == ["begin", "log", "log", "finish"]
    stored = list((tmp_path / experiment.folder / "levels.jsonl").read_text().splitlines())
    assert len(stored) == 2  # levels 0 and 1
    again = Recording()
    list(logged(run(experiment, tmp_path), again))
    assert again.names == ["begin", "log", "log", "log", "finish"]


def test_of_two_errors_the_first_is_raised_and_the_second_noted():
    with pytest.raises(OSError, match="no more log") as caught:
        list(logged([{"a": 1}], Recording(fails=("log", "finish"))))
    assert caught.value.__notes__[1] == "Then the logger's finish raised OSError('no more finish')."


@pytest.mark.parametrize("fails", ["begin", "finish"])
def test_an_error_at_the_beginning_or_end_passes(fails):
    logger = Recording(fails=(fails,))
    with pytest.raises(OSError, match=f"no more {fails}"):
        list(logged([{"a": 1}], logger))
    assert logger.names.count("finish") == (fails == "finish")


# ---------------------------------------------------------------- TensorBoard

RECORDS = [{"accuracy": 0.25, "remaining": 8}, {"accuracy": 0.5, "remaining": 4, "loss": None}]


def curves(folder: Any) -> tuple[dict[str, list[tuple[int, float]]], str]:
    """The curves and the text that TensorBoard itself reads from a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    (text,) = events.Tensors("config/text_summary")
    return found, text.tensor_proto.string_val[0].decode()


def test_tensorboard_reads_what_was_logged(tmp_path):
    logger = TensorBoard(tmp_path / "events")
    assert isinstance(logger, Logger)
    list(logged(RECORDS, logger, {"seed": 3, "noise": {"rate": 0.2}}))
    found, text = curves(tmp_path / "events")
    assert found == {"accuracy": [(0, 0.25), (1, 0.5)], "remaining": [(0, 8.0), (1, 4.0)]}
    assert json.loads(text.strip("`").removeprefix("json")) == {"seed": 3, "noise": {"rate": 0.2}}


def test_a_writer_of_ones_own_stays_open(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        list(logged(RECORDS, TensorBoard(writer)))
        assert curves(tmp_path)[0]["accuracy"] == [(0, 0.25), (1, 0.5)]  # flushed
        writer.add_scalar("more", 1.0, 0)
    assert curves(tmp_path)[0]["more"] == [(0, 1.0)]
    assert len(list(tmp_path.iterdir())) == 1


ABSENT = """
import sys
import torch
sys.modules["tensorboard"] = None
from sparsedd.loggers import TensorBoard, Wandb, logged
try:
    TensorBoard(sys.argv[1])
except ImportError as error:
    print(error)
"""


def test_without_tensorboard_it_says_what_to_install(tmp_path):
    done = subprocess.run([sys.executable, "-c", ABSENT, str(tmp_path / "events")], capture_output=True, text=True)
    assert done.stdout == "TensorBoard needs the package tensorboard: pip install tensorboard\n", done.stderr
    assert not (tmp_path / "events").exists()


# ---------------------------------------------------------------- wandb and trackio


def test_a_run_of_the_module_is_opened_and_finished():
    module = fake(required=("project",))
    logger = Wandb(module, project="sparsedd", name="seed 0")
    assert isinstance(logger, Logger)
    assert module.runs == []
    config = {"seed": 0}
    list(logged(RECORDS, logger, config))
    (opened,) = module.runs
    assert module.arguments == [{"project": "sparsedd", "name": "seed 0"}]
    assert opened.config == config
    assert opened.config is not config
    assert opened.logged == [({"accuracy": 0.25, "remaining": 8}, 0), ({"accuracy": 0.5, "remaining": 4}, 1)]
    assert opened.finished == 1
    list(logged(RECORDS, logger))  # another run
    assert [opened.finished for opened in module.runs] == [1, 1]


def test_a_run_of_ones_own_stays_open():
    mine = fake().init(config={"lr": 1})
    list(logged(RECORDS, Wandb(mine), {"seed": 0}))
    assert mine.config == {"lr": 1, "seed": 0}
    assert len(mine.logged) == 2
    assert mine.finished == 0


def test_what_has_no_config_is_no_run():
    with pytest.raises(TypeError, match="to must be a module such as wandb or trackio, or a run of one, got <.*Recording"):
        Wandb(Recording())


def test_it_is_finished_after_an_error():
    module = fake()
    with pytest.raises(ValueError, match="diverged"):
        list(logged(broken(ValueError("diverged")), Wandb(module)))
    assert module.runs[0].finished == 1


def test_reprs():
    assert repr(Wandb(fake(), project="a")) == "Wandb(trackio, project='a')"
    assert repr(Wandb(fake().init())) == "Wandb(Run)"
