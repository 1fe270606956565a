"""Net: the model of a sweep, and the states of it that are in the folder."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sparsedd import _checks, _random, metrics
from sparsedd._mask import Mask
from sparsedd._match import match_and_warn
from sparsedd._parameters import check_present, find_computed, parameters, unwrap
from sparsedd._shards import Place, is_sharded, local, make_whole, shard_like, sum_over
from sparsedd._state import find_first_names, read_tensors, write_
from sparsedd.sweeps._ranks import Ranks
from sparsedd.sweeps._record import finite
from sparsedd.sweeps._retraining import Retraining
from sparsedd.sweeps._store import Store, check_fit


class Net:
    """The model of a sweep: its state, what a level gives back to it, and how far it has come.

    Parameters
    ----------
    dense
        The mask of level 0: its names are the prunable parameters.
    first
        Where the weights of the beginning are: at step 0, which may be the rewind step.

    Attributes
    ----------
    original
        The weights of the beginning, where they need not be read from the file; None in a sweep of the user's own.
    ranks
        The processes that share the model, or have it each.
    """

    def __init__(self, model: nn.Module, store: Store, dense: Mask, first: Path) -> None:
        self.model: nn.Module = model
        self.first: Path = first
        self.holds: int | None = None  # the level whose weights the model has
        self.original: Mapping[str, Tensor] | None = None
        self.ranks: Ranks = Ranks(alone=True)
        self._store, self._dense = store, dense
        computed = any(find_computed(module) for module in model.modules())
        self._counted = list(dense) if computed else None  # of the learning distance

    def state(self) -> dict[str, Tensor]:
        """Return the model's parameters and buffers, tied ones under the first of their names."""
        own = read_tensors(self.model)
        return {name: own[name] for name in dict.fromkeys(find_first_names(self.model).values())}

    def whole_state(self) -> dict[str, Tensor]:
        """Return the state for a file. Of a sharded model the first rank has all of it, and the others nothing."""
        whole = {}
        for name, tensor in self.state().items():
            here = make_whole(tensor)
            if self.ranks.rank == 0:
                whole[name] = here.cpu() if is_sharded(tensor) else here
        return whole

    def load(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Give the model a state, which comes from a file."""
        own = self.state()
        for name, tensor in check_fit(path, state, own).items():
            write_(name, own[name], shard_like(tensor, own[name]))

    def load_last(self) -> None:
        """Give the model the weights of the last level, unless it has them."""
        last = len(self._store.lines()) - 1
        if last >= 0 and self.holds != last:
            self.load(self._store.weights_path(last), self._store.weights(last))
            self.holds = last

    def save_beginning(self) -> None:
        """Keep the weights that the sweep begins with, if they can't be drawn again."""
        if self.original is not None and self.first.name == self._store.beginning_path.name:
            return
        self.ranks.together(self.warn_of_zeros)
        self._store.save_state(self.first, self.ranks.together(self.whole_state))

    def save_start(self) -> None:
        """Keep the weights at the rewind step."""
        self._store.save_state(self._store.start_path, self.ranks.together(self.whole_state))

    def warn_of_zeros(self) -> None:
        """Warn where the model has been pruned already."""
        match_and_warn(self._dense, self.model)

    def beginning(self) -> Mapping[str, Tensor]:
        """Return the weights that the sweep began with."""
        return self._store.state(self.first) if self.original is None else self.original

    def distance(self) -> float | None:
        """Return the learning distance of the model as it is; None where a parameter is not finite."""
        own = parameters(self.model).values()
        if sum_over([int(not local(p.detach()).isfinite().all()) for p in own], [Place.of(p) for p in own]):
            return None
        return finite(metrics.learning_distance(self.beginning(), self.model, self._counted))

    def draw_anew(self, reinit: Callable[[nn.Module, int], object], seed: int) -> None:
        """Have the caller draw new weights, and see that they are new."""
        before = {name: local(tensor).clone() for name, tensor in self.state().items() if name in self._dense}
        made = reinit(self.model, seed)
        after = {name: tensor for name, tensor in self.state().items() if name in before}
        new = [int(not torch.equal(before[name], local(tensor))) for name, tensor in after.items()]
        changed = sum_over(new, [Place.of(tensor) for tensor in after.values()])
        if (isinstance(made, nn.Module) and made is not self.model) or not changed:
            raise RuntimeError("reinit(model, seed) must draw new weights in place, and has changed none of the model's.")


def level_seed(seed: int, level: int) -> int:
    """Return the seed of the new weights of a level."""
    return int(_random.integers(("reinit", seed, level), 1, 2**31)[0])


def check_model(model: nn.Module) -> None:
    """Raise for what a folder can't keep of a model."""
    for name, module in model.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise TypeError(
                f"{name or 'the model'!r} keeps an extra state (get_extra_state of {type(module).__name__}), maybe no tensor, "
                "and a sweep keeps tensors alone: hold it in buffers."
            )
    for name, p in model.named_parameters():
        if is_lazy(p):
            raise RuntimeError(f"{name!r} has no shape yet: run a batch through its lazy module first.")
    check_present(dict(unwrap(model).named_parameters()))


def check_reinit(reinit: Any, retraining: Retraining) -> None:
    """Raise unless ``reinit`` can be called with a model and a seed, where the retraining method draws new weights."""
    if (reinit is None) == (retraining.weights == "reinit"):
        needs = "needs reinit=, which draws them" if reinit is None else "draws no new weights: leave reinit= out"
        if reinit is not None:
            needs += ", and for re-initialised tickets pass a newly initialised model with tickets="
        raise ValueError(f"{retraining!r} {needs}.")
    if reinit is None:
        return
    _checks.function("reinit", reinit, "reinit(model, seed)")
    try:
        signature = inspect.signature(reinit)
    except ValueError:  # of a function in C, which does not tell
        return
    try:
        signature.bind(None, 0)
    except TypeError as error:
        raise TypeError(f"reinit must take (model, seed), got {reinit!r} of {signature}: {error}.") from None
