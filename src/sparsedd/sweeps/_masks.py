"""Masks: those of the levels of a sweep, each made of the net before, or taken from another sweep."""

from sparsedd._mask import Mask
from sparsedd._pruner import Pruner
from sparsedd.sweeps._net import Net
from sparsedd.sweeps._store import Store, check_fit


class Masks:
    """The masks of a sweep, in its folder.

    Parameters
    ----------
    net, dense, store, pruner, levels, one_shot
        Of the sweep; ``dense`` is the mask of level 0.
    tickets
        The folder whose masks are taken, if they are another sweep's.

    Attributes
    ----------
    held
        The mask of the level in work.
    """

    def __init__(
        self, net: Net, dense: Mask, store: Store, pruner: Pruner, *, levels: int, one_shot: bool, tickets: Store | None
    ) -> None:
        self.tickets: Store | None = tickets
        self.held: Mask = dense
        self._net, self._dense, self._store = net, dense, store
        self._pruner, self._levels, self._one_shot = pruner, levels, one_shot

    def make(self, number: int) -> None:
        """Make the mask of a level from what is stored."""
        if self.tickets is not None:
            mask = check_fit(self.tickets.mask_path(number), self.tickets.mask(number), self._dense)
        else:
            mask = self._net.ranks.together(self.prune_stored, number) if number else self._dense
        mask.save(self._store.mask_path(number))

    def prepare(self, number: int) -> None:
        """Make the masks that follow from the model as it is at the end of a level, while gradients are at hand."""
        if self.tickets is not None or (self._one_shot and number):
            return
        for following in range(number + 1, self._levels if self._one_shot else min(number + 2, self._levels)):
            try:
                self._net.ranks.together(self.prune_held, following).save(self._store.mask_path(following))
            except ValueError:  # no weight is left, or none that can be ranked: the next level says so, and this one is kept
                return

    def reach(self, number: int) -> bool:
        """Check that another sweep has all the masks that are taken; return False where it ended before this level."""
        if self.tickets is None:
            return True
        records = self.tickets.levels()
        if len(records) < self._levels and not (records and records[-1].diverged):
            has = f"{self.tickets.path}, whose masks are taken, has {len(records)} of {self._levels} levels"
            raise RuntimeError(f"{has}: run that sweep first, or ask for as many.")
        return number < len(records)

    def prune(self, number: int, mask: Mask) -> Mask:
        """Prune the model, which holds the level before, or level 0 in one shot."""
        model, pruner = self._net.model, self._pruner
        return pruner.prune_to(model, pruner.sparsity(number), mask) if self._one_shot else pruner.prune(model, mask)

    def prune_held(self, number: int) -> Mask:
        """Prune the model by the mask that it is trained with."""
        return self.prune(number, self.held)

    def prune_stored(self, number: int) -> Mask:
        """Prune what is stored of the level before, or of level 0 in one shot."""
        store, source = self._store, 0 if self._one_shot else number - 1
        if self._one_shot and store.last and not store.weights_path(0).exists():
            raise ValueError(
                f"level {number} in one shot is pruned from level 0, whose weights keep='last' has not kept: the masks end at "
                f"level {number - 1}. Begin anew in another folder, with levels={self._levels} from the first, or keep='all'."
            )
        self._net.load(store.weights_path(source), store.weights(source))
        try:
            return self.prune(number, store.mask(source))
        except ValueError as error:
            raise ValueError(
                f"level {number}, of nominal sparsity {self._pruner.sparsity(number):.2%}, can't be pruned: {error} Ask for "
                f"levels={number}, or begin anew with a smaller fraction: Pruner.reaching(sparsity, levels) finds it."
            ) from error
