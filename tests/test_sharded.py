"""Models whose weights lie on several processes: what each of those does is in shards.py."""

import json
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
import shards
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_selection import by_sorting, groups, smallness
from test_sweep import net, train
from torch import nn

from sparsedd import Mask, Pruner, Sweep, _shards, metrics
from sparsedd._bits import Bits
from sparsedd._selection import Ranking, Scored
from sparsedd._shards import Place

SCENES = {
    2: ("matrix", "own_scores", "optimizers", "files", "silent", "together"),
    3: ("uneven", "files", "own_scores", "stages", "sweep", "together"),
}


def spawn(out: Path, ranks: int, *scenes: str) -> list[dict]:
    """What each rank has found in each scene, by the rank."""
    command = [sys.executable, "-W", "ignore", shards.__file__, str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, str(rank), str(ranks), *scenes], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    try:
        errors = [process.communicate(timeout=280)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), errors
    return [{path.name: json.loads(path.read_text()) for path in out.glob(f"*.{rank}.json")} for rank in range(ranks)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def played(out):
    """All scenes, in one spawn."""
    scenes = [f"{size}:{scene}" for size, scenes in SCENES.items() for scene in scenes]
    found = spawn(out, 3, *scenes)
    return lambda size, scene: [found[rank][f"{scene}.{size}.{rank}.json"] for rank in range(size)]


def check(ranks):
    assert [rank["wrong"] for rank in ranks] == [[] for _ in ranks]
    assert all(rank["same"] == ranks[0]["same"] for rank in ranks)


@pytest.mark.parametrize(("size", "scene"), [(size, scene) for size, scenes in SCENES.items() for scene in scenes])
def test_shards_are_as_good_as_the_whole(played, size, scene):
    check(played(size, scene))


def test_masks_and_files_are_equal_for_any_number_of_ranks(played, tmp_path):
    two, three = played(2, "matrix")[0], played(3, "uneven")[0]
    assert len(three["same"]) == 16
    assert two["same"] | three["same"] == two["same"]
    Pruner(fraction=0.5).prune(shards.make("mlp")).save(tmp_path / "mask")
    for size in (2, 3):
        assert played(size, "together")[0]["same"]["bytes"] == (tmp_path / "mask").read_bytes().hex()


def test_one_process_goes_on_with_a_sweep_of_three(played, out):
    check(played(3, "sweep"))
    sweep = train(Sweep(out / "sweep", net(), Pruner(fraction=0.4), levels=3, rewind_step=3))
    alone = train(Sweep(out / "alone", net(), Pruner(fraction=0.4), levels=3, rewind_step=3))
    for record, other in zip(sweep.records, alone.records, strict=True):
        assert record.remaining == other.remaining
        assert record.learning_distance == pytest.approx(other.learning_distance, rel=1e-5)
    model = net()
    for level in (1, 2):
        model.load_state_dict(sweep.weights(level - 1), strict=False)
        assert Pruner(fraction=0.4).prune(model, sweep.mask(level - 1)) == sweep.mask(level)
    assert {path.name for path in sweep.path.iterdir()} == {path.name for path in alone.path.iterdir()}


@pytest.mark.long
def test_four_ranks_in_two_dimensions(tmp_path):
    check([found[f"four.4.{rank}.json"] for rank, found in enumerate(spawn(tmp_path, 4, "4:four"))])


def in_ranks(size, act):
    """What an act gives in each of so many threads, whose sums are over all of them."""
    barrier, given_, here = threading.Barrier(size, timeout=20), [None] * size, threading.local()

    def all_reduce(vector, groups, device):
        given_[here.rank] = vector
        barrier.wait()
        total = sum(given_)
        barrier.wait()
        return total

    def run(rank):
        here.rank = rank
        try:
            return act(rank)
        except BaseException:
            barrier.abort()
            raise

    with mock.patch.object(_shards, "_all_reduce", all_reduce), ThreadPoolExecutor(size) as threads:
        return list(threads.map(run, range(size)))


@given(groups(), smallness, st.integers(2, 4), st.data())
def test_a_ranking_of_parts_is_that_of_the_whole(group, sizes, ranks, data):
    values, keeps = group
    length = sum(int(keep.sum()) for keep in keeps)
    lose = data.draw(st.integers(0, length))
    parts = []
    for value in values:  # cut along one of its dimensions, in parts that may be empty; or with every rank, as what is not cut
        dim = data.draw(st.integers(-1, value.dim() - 1))
        n = value.shape[dim] if dim >= 0 else 0
        cuts = sorted(data.draw(st.lists(st.integers(0, n), min_size=ranks - 1, max_size=ranks - 1)))
        boxes = []
        for a, b in zip([0, *cuts], [*cuts, n], strict=True):
            shape = tuple(value.shape)
            box = {"start": tuple(a * (d == dim) for d in range(value.dim())), "size": (*shape[:dim], b - a, *shape[dim + 1 :])}
            boxes.append(Place(shape, **box, groups=("all",)) if dim >= 0 else Place(shape, (0,) * value.dim(), shape))
        parts.append(boxes)

    def rank_own(rank):
        scored = [
            Scored(str(k), boxes[rank].take(value), Bits.pack(boxes[rank].take(keep)), place=boxes[rank])
            for k, (value, keep, boxes) in enumerate(zip(values, keeps, parts, strict=True))
        ]
        return Ranking(scored, length).without_lowest(lose)

    with sizes:
        found = in_ranks(ranks, rank_own)
    for k, expected in enumerate(by_sorting(values, keeps, lose)):
        whole = torch.zeros(values[k].shape, dtype=torch.bool)
        for rank in range(ranks):
            parts[k][rank].take(whole).copy_(found[rank][k].unpack())
        assert whole.flatten().tolist() == expected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 30), st.data())
def test_a_process_has_the_bits_of_its_own_part(shape, size, data):
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    place = Place(
        tuple(shape), start, tuple(data.draw(st.integers(0, n - a)) for n, a in zip(shape, start, strict=True)), ("all",)
    )
    whole = torch.rand(shape, generator=torch.Generator().manual_seed(size)) < 0.5
    like = torch.empty(0)
    with (
        mock.patch.object(Place, "of", return_value=place),
        mock.patch.multiple(_shards, SLICE=size, _all_reduce=lambda vector, *_: vector),
    ):
        bits = Bits.pack(whole)
        part = _shards.take_bits(bits, like)
        assert part.unpack().tolist() == place.take(whole).tolist()
        assert _shards.take_bits(bits, like) is part
        found = _shards.gather(part, like).unpack()
    assert place.take(found).tolist() == place.take(whole).tolist()
    assert found.sum() == part.count()  # False elsewhere


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_a_place_knows_where_its_weights_are_in_the_whole(shape, data):
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    size = tuple(data.draw(st.integers(0, n - a)) for n, a in zip(shape, start, strict=True))
    place = Place(tuple(shape), start, size, groups=("all",))
    whole = torch.arange(math.prod(shape)).reshape(shape)
    expected = place.take(whole).flatten().tolist()
    assert list(place.locate(torch.arange(math.prod(size)).numpy())) == expected
    assert [i for first, n in place.runs() for i in range(first, first + n)] == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_are_in_the_order_of_the_floats(dtype):
    infinity = torch.tensor(math.inf, dtype=getattr(torch, dtype)).numpy()
    bits = int(infinity.view(f"i{infinity.dtype.itemsize}"))
    few = [~bits, ~bits + 1, -(10**6), -2, -1, 0, 1, 2, 10**6, bits - 1, bits]
    found = _shards.floats(few, infinity.dtype)
    assert list(found) == sorted(found)
    assert len(set(found)) == len(few) - 1  # -0.0 is 0.0
    assert [found[0], *found[4:6], found[-1]] == [-math.inf, 0.0, 0.0, math.inf]
    assert math.copysign(1, found[4]) == -1


@given(st.lists(st.integers(-3000, 3000), min_size=1), st.data())
def test_the_search_finds_each_rank(values, data):
    values.sort()
    rank = data.draw(st.integers(1, len(values)))
    count_up_to = mock.Mock(side_effect=lambda tried: [sum(v <= t for v in values) for t in tried])
    assert _shards.search(count_up_to, -5000, 5000, rank) == values[rank - 1]
    assert count_up_to.call_count <= 3


def test_partitioned_parameters_are_refused_by_name():
    model = nn.Linear(2, 2)
    model.weight.ds_id = 0  # as DeepSpeed marks what its ZeRO-3 has taken apart
    for use in (Pruner().prune, metrics.sparsity, Mask.dense, Mask.nonzero):
        with pytest.raises(RuntimeError, match=r"DeepSpeed's ZeRO-3.*\.fully_shard instead"):
            use(model)
