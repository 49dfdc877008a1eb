"""Coreset selection: which private samples are kept, from the records of one proxy training.

Pure functions of tensors; letters as in docs/design.md, and E epochs, N samples, D features. Every
choice between equals is drawn: sorting or argmin alone would let a sample's fate depend on its
index. Greedy selections therefore see the samples in a random order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from synpriv.methods.coreset.recipe import NEVER_LEARNED
from synpriv.signatures import require


@dataclass(frozen=True)
class Records:
    """What one instrumented training saw of its private set."""

    logits: Tensor  # float32 [E,N,K], eval mode, unaugmented images, after each epoch
    features: Tensor  # float32 [N,D], penultimate layer after the last epoch
    labels: Tensor  # int64 [N], as trained on, wrong ones included

    def __post_init__(self) -> None:
        num = self.logits.shape[1] if self.logits.ndim == 3 else -1
        if not len(self.labels) == len(self.features) == num:
            shapes = [list(t.shape) for t in (self.logits, self.features, self.labels)]
            raise ValueError(f"records of shapes {shapes}: must be [E,N,K], [N,D] and [N]")

    @staticmethod
    def of_labels(labels: Tensor) -> Records:
        """Of no training at all."""
        num = len(labels)
        return Records(torch.empty(0, num, 1), torch.empty(num, 0), labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> Records:
        return Records(self.logits[:, index], self.features[index], self.labels[index])

    def to(self, device: torch.device) -> Records:
        return Records(*(t.to(device) for t in (self.logits, self.features, self.labels)))


@dataclass(frozen=True)
class Options:
    """What a selection may use besides the records."""

    generator: torch.Generator  # on the CPU
    never_learned: str = "first"
    el2n_epochs: Sequence[int] | None = None


Selection = Callable[[Records, int, Options], Tensor]  # -> int64 [num], in the order of choice


def select(
    records: Records,
    *,
    selection: str,
    num: int,
    balance: bool,
    generator: torch.Generator,
    never_learned: str = "first",
    el2n_epochs: Sequence[int] | None = None,
) -> Tensor:
    """Positions of the `num` samples that `selection` keeps, int64 [num], ascending.

    balance: keep the same fraction of each class, by the label that was trained on. The selection
    then sees one class at a time: herding, say, follows the mean of the class.
    never_learned: see `forgetting`. el2n_epochs: which epochs, from 1, EL2N averages over; by
    default those of `early_epochs`.
    """
    _check(records, num)
    choose = SELECTIONS[selection]
    options = Options(generator, never_learned=never_learned, el2n_epochs=el2n_epochs)
    if not balance:
        return choose(records, num, options).sort().values
    classes, sizes = records.labels.unique(return_counts=True)
    chosen = []
    for label, budget in zip(classes, budgets(sizes, num, generator).tolist(), strict=True):
        members = (records.labels == label).nonzero()[:, 0]
        chosen.append(members[choose(records[members], budget, options)])
    return torch.cat(chosen).sort().values


def _check(records: Records, num: int) -> None:
    require(1 <= num <= len(records), f"num={num}", f"1..{len(records)} (the private set)")
    # A NaN would be sorted first and be chosen.
    if not (records.logits.isfinite().all() and records.features.isfinite().all()):
        raise ValueError("records: not finite, the proxy has diverged; lower its lr")


def budgets(sizes: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """How many to keep of classes of `sizes` [K]: int64 [K], proportional, exactly `num` in all.

    Largest remainders: each class gets its share rounded down, and those whose share was cut most
    get one more, drawn between equals. No class gets more than it has.
    """
    share, total = num * sizes, int(sizes.sum())  # integers: a remainder must not be rounded
    keep = share // total
    keep[largest(share % total, num - int(keep.sum()), generator)] += 1
    return keep


def largest(scores: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Positions of the `num` largest scores [N], int64 [num], descending, ties in random order."""
    order = shuffled(scores, generator)
    return order[scores[order].argsort(descending=True, stable=True)[:num]]


def shuffled(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The positions of N rows in random order, int64 [N]."""
    return torch.randperm(len(rows), generator=generator).to(rows.device)


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over epochs of ||softmax - onehot||_2: logits [E,N,K], labels [N] -> float64 [N].

    EL2N of Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet" (NeurIPS 2021). They average
    over initialisations; with one proxy the mean is over epochs.
    """
    target = one_hot(labels.long(), logits.shape[2])
    errors = [(each.double().softmax(dim=1) - target).norm(dim=1) for each in logits]
    return torch.stack(errors).mean(0)


def early_epochs(num_epochs: int) -> range:
    """The first 10 epochs, counted from 1, but not more than the first half of the training.

    Paul et al. score at epochs 10 to 20 of 200, before hard samples are memorised. A short proxy
    may have memorised all by its end, where EL2N no longer tells hard from easy.
    """
    return range(1, min(10, math.ceil(num_epochs / 2)) + 1)


def forgetting(logits: Tensor, labels: Tensor, *, never_learned: str) -> Tensor:
    """How often a sample turned from right to wrong: logits [E,N,K], labels [N] -> float64 [N].

    Forgetting events of Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural
    Network Learning" (ICLR 2019, section 3), between the ends of consecutive epochs; theirs lie
    between the mini-batches in which a sample is seen.

    never_learned: `first` gives samples that are never right infinitely many events, as Toneva et
    al. do; `never` leaves them at their 0, as DeepCore does: they tie with those that are learned
    and never forgotten, and come after all that are forgotten once. Noisy labels are seldom
    learned, so this decides whether they are kept.
    """
    right = logits.argmax(dim=2) == labels
    events = (right[:-1] & ~right[1:]).sum(0).double()
    return events.masked_fill(~right.any(0), NEVER_LEARNED[never_learned])


def herding(features: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Greedy picks whose running mean stays near the mean of all: [N,D] -> int64 [num], in order.

    Welling, "Herding Dynamical Weights to Learn" (ICML 2009), without replacement: pick t+1 is
    argmin_x ||(t+1) mu - sum(picked) - f(x)||. Some code takes the largest distance instead, which
    walks away from the mean. One product of [N,D] and [D] per pick.
    """
    order = shuffled(features, generator)
    centred = features[order].double()
    centred -= centred.mean(0)
    # With c = f - mu the distance is ||sum c(picked) + c(x)||; what does not depend on x is left
    # out. Centring also spares the difference of large numbers.
    squares, total = centred.square().sum(1), torch.zeros_like(centred[0])
    picks = torch.empty(num, dtype=torch.long, device=features.device)
    for step in range(num):  # a pick stays an index tensor [1]: the host never waits for it
        best = (squares + 2 * (centred @ total)).argmin(0, keepdim=True)
        picks[step : step + 1] = best
        total += centred.index_select(0, best)[0]
        squares.index_fill_(0, best, math.inf)  # not again
    return order[picks]


def k_center(features: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Greedy cover, farthest first from a random start: [N,D] -> int64 [num], in order.

    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach"
    (ICLR 2018, algorithm 1), Euclidean. One product of [N,D] and [D] per pick.
    """
    order = shuffled(features, generator)
    centred = features[order].double()
    centred -= centred.mean(0)
    squares = centred.square().sum(1)
    nearest = torch.full_like(squares, math.inf)  # squared distance to the nearest pick
    picks = torch.empty(num, dtype=torch.long, device=features.device)
    for step in range(num):
        best = nearest.argmax(0, keepdim=True)  # of equal ones the first, a random one
        picks[step : step + 1] = best
        centre = centred.index_select(0, best)[0]
        distance = squares - 2 * (centred @ centre) + squares.index_select(0, best)
        nearest = torch.minimum(nearest, distance)
        nearest.index_fill_(0, best, -math.inf)  # not again, even if only duplicates are left
    return order[picks]


def _by_el2n(records: Records, num: int, options: Options) -> Tensor:
    epochs = options.el2n_epochs or early_epochs(len(records.logits))
    early = records.logits[[epoch - 1 for epoch in epochs]]
    return largest(el2n(early, records.labels), num, options.generator)


def _by_forgetting(records: Records, num: int, options: Options) -> Tensor:
    events = forgetting(records.logits, records.labels, never_learned=options.never_learned)
    return largest(events, num, options.generator)


SELECTIONS: dict[str, Selection] = {
    "random": lambda records, num, options: shuffled(records.labels, options.generator)[:num],
    "herding": lambda records, num, options: herding(records.features, num, options.generator),
    "k_center": lambda records, num, options: k_center(records.features, num, options.generator),
    "el2n": _by_el2n,
    "forgetting": _by_forgetting,
}
