"""A user's sweep whose files are damaged: verify names them, --repair takes levels out, and the script computes them again."""

import shutil

import pytest
import torch
from test_sweep import Killed, found, net, train

from sparsedd import Mask, Pruner, Sweep, scores
from sparsedd.cli import main
from sparsedd.experiments import repair, verify
from sparsedd.sweeps import FINETUNING

LEVELS, IN_WORK = 4, 3  # the last level is in work: its first epoch is kept
OPTIONS = {"pruner": Pruner(fraction=0.4), "levels": LEVELS, "rewind_step": 2}
KINDS = {
    "plain": {},
    "from the start": {"rewind_step": 0},
    "keep": {"retraining": FINETUNING},
    "one shot": {"one_shot": True},
    "last": {"keep": "last"},
    "last, keep": {"keep": "last", "retraining": FINETUNING},
    "gradient": {"pruner": Pruner("gradient", fraction=0.4)},
    "gradient, one shot": {"pruner": Pruner(scores.gradient, fraction=0.4), "one_shot": True},
}


def stop(*place):
    if place == ("epoch", IN_WORK, 1):
        raise Killed


@pytest.fixture(scope="module", params=KINDS)
def sweep(request, tmp_path_factory):
    """A folder that was killed in its last level, a whole one, and what goes on with one."""
    out, options = tmp_path_factory.mktemp("sweep"), OPTIONS | KINDS[request.param]
    gradients = request.param.startswith("gradient")

    def run(folder, at=None):
        return train(Sweep(folder, net(), **options), at=at, gradients=gradients)

    with pytest.raises(Killed):
        run(out / "killed", stop)
    Sweep(out / "killed", net(), **options).export(IN_WORK - 1, out / "killed" / "net.safetensors")
    Mask({"w": torch.ones(2, 2).bool()}).save(out / "killed" / "mine.safetensors")
    run(shutil.copytree(out / "killed", out / "whole"))
    return out, run


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_each_damaged_file_is_named_and_the_script_gives_the_same_again(sweep, damage, tmp_path):
    out, run = sweep
    assert [(f.path, f.ok) for f in verify(out)] == [(out / "killed", True), (out / "whole", True)]
    wanted = found(out / "whole")
    others = {"lock", "config.json", "net.safetensors", "mine.safetensors"}
    names = sorted(path.name for path in (out / "killed").iterdir() if path.name not in others)
    assert len(names) >= 7
    for name in names:
        folder = tmp_path / name
        path = shutil.copytree(out / "killed", folder) / name
        data = path.read_bytes()
        path.unlink()
        if damage != "gone":
            path.write_bytes(data[:-9] if damage == "cut" else data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
            assert path in [f.path for f in verify(folder) if not f.ok], name
        assert all(f.ok for f in repair(folder)), name
        assert (folder / "net.safetensors").exists() and (folder / "mine.safetensors").exists()
        run(folder)
        assert found(folder) == wanted, name
        assert [f.ok for f in verify(folder)] == [True]


def test_the_command_says_what_it_took_out(tmp_path, capsys):
    mine = train(Sweep(tmp_path / "mine" / "seed-0", net(), Pruner(fraction=0.4), levels=4))
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{mine.path}: ok, 4 of 4 levels, 11 files\n"
    path = mine._store.weights_path(2)
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["verify", str(tmp_path)]) == 1
    remedy = f"To compute it again: sparsedd verify --repair {mine.path}, then run the script again. "
    remedy += "That takes out levels 2 to 3, and the script computes that again."
    assert capsys.readouterr().out == f"{path} is damaged or altered. {remedy}\n"
    assert main(["verify", "--repair", str(tmp_path)]) == 0
    said, well = capsys.readouterr().out.splitlines()
    assert said == f"{mine.path}: took out levels 2 to 3. Run the script again, which goes on from there."
    assert well.startswith(f"{mine.path}: ok, 2 of 4 levels")
    assert [record.level for record in train(Sweep(mine.path, net(), Pruner(fraction=0.4), levels=4)).records] == [0, 1, 2, 3]


def test_a_damaged_configuration_can_not_be_computed_again(tmp_path, capsys):
    mine = train(Sweep(tmp_path, net(), levels=1))
    path = mine.path / "config.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    before = found(mine.path)
    assert main(["verify", "--repair", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"{path} is not the configuration of a sweep")
    assert found(mine.path) == before


def test_a_configuration_that_is_gone_is_said_to_be_missing(tmp_path, capsys):
    (train(Sweep(tmp_path, net(), levels=1)).path / "config.json").unlink()
    assert main(["verify", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'config.json'} is missing: restore it from a copy.")


def test_what_keep_last_has_not_kept_is_no_fault_later(tmp_path):
    train(Sweep(tmp_path, net(), levels=3, keep="last"))
    more = train(Sweep(tmp_path, net(), levels=5))
    assert [f.ok for f in verify(tmp_path)] == [True]
    assert more.weights(3).keys() == more.weights(4).keys()
    with pytest.raises(ValueError, match="keep='last' has kept no weights of level 1"):
        more.weights(1)
