"""What a split holds."""

import numpy as np
import pytest
import torch
from conftest import make_pool
from scipy import stats

from synpriv.data.datasets import Source
from synpriv.data.draws import canary_indices, draw, membership
from synpriv.data.images import LabelledImages
from synpriv.data.intake import Pools, take_in
from synpriv.data.pool import Pool
from synpriv.data.split import AuditSplit, make_split

NUM, CLASSES = 40, 4


@pytest.fixture
def pools() -> Pools:
    """Images that carry their own position, so that any subset shows which samples it holds."""

    def part(start: int, num: int) -> Pool:
        return make_pool(num, num_classes=CLASSES, start=start)

    return take_in(Source(part(0, NUM), part(100, 12), part(200, 8)))


def split(pools: Pools, seed: int = 0, **changes: object) -> AuditSplit:
    options: dict = {
        "kind": "mislabelled",
        "num_canaries": 10,
        "member_draw": "balanced",
        "num_models": 6,
        "audit_seed": 0,
    }
    return make_split(pools, draw(pools, **(options | changes)), seed=seed)


def positions(images: LabelledImages) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("member_draw", ["paired", "balanced", "bernoulli"])
@pytest.mark.parametrize("seed", range(6))
def test_train_holds_all_but_the_canaries_left_out(
    pools: Pools, seed: int, member_draw: str
) -> None:
    made = split(pools, seed, member_draw=member_draw)
    canaries = np.array(positions(made.canaries))
    left_out = set(canaries[~made.member.numpy()])
    assert sorted(positions(made.train)) == [i for i in range(NUM) if i not in left_out]
    where = made.position[made.member]
    assert positions(made.train[where]) == positions(made.canaries[made.member])
    assert (made.position[~made.member] == -1).all()


def test_the_order_of_a_private_set_says_nothing_of_its_canaries() -> None:
    """Of data sorted by class a wrong label among its neighbours would, and one's own are last."""
    images = np.zeros((440, 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0] = np.stack([np.arange(440) % 256, np.arange(440) // 256], axis=1)
    labels = np.repeat(np.arange(4), 110)
    pools = take_in(Source(Pool(images[:400], labels[:400]), Pool(images[400:], labels[400:])))
    places, alone, expected = [], [], []
    for seed in range(40):
        made = split(pools, seed, num_models=40, num_canaries=40, member_draw="paired")
        places += (made.position[made.member] / len(made.train)).tolist()
        label = made.train.labels
        differs = (label[1:-1] != label[:-2]) & (label[1:-1] != label[2:])
        canary = torch.zeros(len(label), dtype=torch.bool)
        canary[made.position[made.member]] = True
        alone.append(float(differs[canary[1:-1]].double().mean()))
        expected.append(float(differs[~canary[1:-1]].double().mean()))
    assert stats.kstest(places, "uniform").pvalue > 1e-3
    assert stats.ttest_rel(alone, expected).pvalue > 1e-3
    assert positions(split(pools, 0).train) != positions(split(pools, 1).train)


def test_splits_of_all_models_are_the_drawn_membership(pools: Pools) -> None:
    chosen = canary_indices(pools.twins, 10, seed=0)
    drawn = membership(NUM, 6, seed=0)[chosen]
    made = [split(pools, seed) for seed in range(6)]
    np.testing.assert_array_equal(torch.stack([s.member for s in made], 1).numpy(), drawn)
    assert all(positions(s.canaries) == chosen.tolist() for s in made)


def test_mislabelled_canaries_have_one_wrong_label_everywhere(pools: Pools) -> None:
    made = [split(pools, seed) for seed in range(6)]
    canaries = made[0].canaries
    assert (canaries.labels != made[0].true_labels).all()
    label = dict(zip(positions(canaries), canaries.labels.tolist(), strict=True))
    for each in made:
        torch.testing.assert_close(each.canaries.labels, canaries.labels)
        for position, trained_on in zip(
            positions(each.train), each.train.labels.tolist(), strict=True
        ):
            assert trained_on == label.get(position, position % CLASSES)


def test_clean_canaries_keep_their_label(pools: Pools) -> None:
    made = split(pools, kind="clean")
    torch.testing.assert_close(made.canaries.labels, made.true_labels)
    assert made.train.labels.tolist() == [p % CLASSES for p in positions(made.train)]


def test_true_labels_are_those_of_the_data(pools: Pools) -> None:
    made = split(pools)
    assert made.true_labels.tolist() == [p % CLASSES for p in positions(made.canaries)]


def test_membership_does_not_depend_on_the_number_of_canaries(pools: Pools) -> None:
    few, many = split(pools, num_canaries=4), split(pools, num_canaries=NUM)
    assert many.member[:4].tolist() == few.member.tolist()
    assert many.canaries.labels[:4].tolist() == few.canaries.labels.tolist()


def test_the_source_is_left_alone_and_other_pools_pass_through(pools: Pools) -> None:
    labels = pools.private.labels.copy()
    made = split(pools)
    np.testing.assert_array_equal(pools.private.labels, labels)
    assert pools.public is not None
    assert made.public is not None
    for ours, theirs in ((made.test, pools.test), (made.public, pools.public)):
        np.testing.assert_array_equal(ours.images.numpy(), theirs.images)
        np.testing.assert_array_equal(ours.labels.numpy(), theirs.labels)


def test_another_audit_seed_draws_other_canaries(pools: Pools) -> None:
    assert positions(split(pools).canaries) != positions(split(pools, audit_seed=1).canaries)


@pytest.mark.parametrize("num_canaries", [0, NUM + 1])
def test_impossible_numbers_of_canaries_are_refused(pools: Pools, num_canaries: int) -> None:
    with pytest.raises(ValueError, match=rf"num_canaries={num_canaries}: must be 1\.\.{NUM}"):
        split(pools, num_canaries=num_canaries)
