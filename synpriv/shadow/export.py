"""The private sets of a cell's shadow models as files, for a pipeline that makes sets of them.

Nothing that is written says which images are canaries: a set is images and labels in the order in
which `method=external` is given them, which is random. No torch.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from synpriv import checkout, config
from synpriv.data.draws import Draw, run_seed
from synpriv.data.intake import Pools, in_words, record
from synpriv.data.sets import CLAIM, MANIFEST, Splits, splits_in
from synpriv.results import store
from synpriv.shadow.pools import draw_canaries, load_pools

IMAGES = "images.npz"  # of all sets, which then are rows of it
VERSION = 1


def write(cfg: DictConfig, out: Path, *, indices: bool) -> Iterator[str]:
    """Write the sets of all shadow models below `out`/in, then what tells them; says it in words.

    A folder that holds the sets of other options is refused; sets of these are written anew.
    """
    config.validate(cfg)
    pools = load_pools(cfg)
    drawn = draw_canaries(cfg, pools)
    splits = Splits(pools.private, drawn)
    claims = {str(seed): splits.sha256(seed) for seed in range(cfg.num_models)}
    _refuse_others(out / MANIFEST, claims)
    yield f"data: {in_words(record(pools))}"
    if indices:
        images = _channels_last(pools.private.images)
        store.write_bytes(out / IMAGES, store.npz_bytes(images=images))
    about: dict[str, Any] = {}
    for seed, claim in claims.items():
        name, content = _set(cfg, pools, drawn, int(seed), claim, indices=indices)
        store.write_bytes(out / name, content)
        checksum = hashlib.sha256(content).hexdigest()
        about[seed] = {"file": name, "sha256": checksum, "seed": _run_seed(cfg, int(seed))}
        about[seed][CLAIM] = claim
    manifest = {
        "version": VERSION,
        "num_classes": pools.num_classes,
        "class_names": list(pools.class_names),
        "image_shape": [*pools.image_shape[1:], pools.image_shape[0]],
        "splits": about,
    }
    store.write_bytes(out / "README.md", _contract(manifest, indices=indices).encode())
    store.write_bytes(out / MANIFEST, json.dumps(manifest, indent=1).encode())
    yield f"{len(about)} private sets in {out / 'in'}"
    yield f"{out / 'README.md'} says what to make of them"


def _refuse_others(manifest: Path, claims: dict[str, str]) -> None:
    """Sets that were made from what lies there would be taken for ones of these options.

    More shadow models of the same cell are welcome: the first ones stay what they are.
    """
    if not manifest.is_file():
        return
    there = splits_in(manifest)
    if any(claims.get(seed, claim) != claim for seed, claim in there.items()):
        raise ValueError(
            f"--out {manifest.parent}: holds the private sets of other options (data, canaries, "
            "audit_seed, num_models of balanced cells); must be another folder"
        )
    if len(there) > len(claims):
        raise ValueError(
            f"--out {manifest.parent}: holds {len(there)} private sets; must be another folder "
            f"for {len(claims)}, or num_models={len(there)}"
        )


def _set(
    cfg: DictConfig, pools: Pools, drawn: Draw, seed: int, claim: str, *, indices: bool
) -> tuple[str, bytes]:
    """Name and content of one private set."""
    rows = drawn.rows(seed)
    labels = drawn.labels[rows]
    if indices:
        text = io.StringIO()
        table = np.stack([rows, labels], axis=1).tolist()
        csv.writer(text, lineterminator="\n").writerows([["row", "label"], *table])
        return f"in/{seed}.csv", text.getvalue().encode()
    arrays: dict[str, NDArray] = {
        "images": _channels_last(pools.private.images[rows]),
        "labels": labels,
        "num_classes": np.array(pools.num_classes),
        "seed": np.array(_run_seed(cfg, seed)),
        CLAIM: np.array(claim),
    }
    return f"in/{seed}.npz", store.npz_bytes(**arrays)


def _run_seed(cfg: DictConfig, seed: int) -> int:
    """What a generator should draw everything from, as that of `method=external` is told to."""
    return run_seed(
        seed,
        audit_seed=cfg.audit_seed,
        member_draw=cfg.canary.membership,
        num_models=cfg.num_models,
    )


def _channels_last(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _contract(manifest: dict[str, Any], *, indices: bool) -> str:
    """README.md: what is here, what is to be made of it, how it is audited."""
    height, width, channels = manifest["image_shape"]
    names, num = manifest["class_names"], len(manifest["splits"])
    shape = f"{height},{width},{channels}"
    each = (
        f"`in/SEED.csv` has the rows of `{IMAGES}` (`images` uint8 [N,{shape}]) that belong to a\n"
        "private set, and the `label` that each is to be learnt with. What it does not name is of "
        "other\nsets: a generator that reads more than its rows is not audited, but misjudged"
        if indices
        else f"`in/SEED.npz` is one private set: `images` uint8 [N,{shape}], `labels` int64 [N], "
        f"`num_classes`,\n`seed` and `{CLAIM}`"
    )
    return _README.format(
        num=num,
        last=num - 1,
        each=each,
        shape=shape,
        num_classes=manifest["num_classes"],
        listed=", ".join(names[:20]) + ", ..." * (len(names) > 20),
        claim=CLAIM,
        manifest=MANIFEST,
        program=checkout.program(),
    )


_README = """# {num} private sets, to make {num} synthetic sets of

{each}. SEED is 0 to {last}. There are {num_classes} classes, with the labels 0, 1, ...:
{listed}. `{manifest}` lists the sets, with checksums.

Run your generator once per private set:

- It sees that one set and nothing of the others: what all sets have in common, and where they
  differ, must not reach it. The same code, the same hyper-parameters for all of them.
- It draws everything random from `seed` (of the archive, or of `{manifest}`).
- It writes `out/SEED.npz` with `images` uint8 [M,{shape}] and `labels`, integers [M] below
  {num_classes} or probabilities as floats [M,{num_classes}]; or a folder `out/SEED` with a folder
  of images per class, called as the classes above.
- Copy `{claim}` of its private set into every set: the array of the archive, or a text file of that
  name in the folder (of private sets as csv files, `{manifest}` has it per SEED). It tells a set
  from its neighbour's and from one of an earlier split; without it `{manifest}` above a set
  stands for it by its place alone.

Then, with the options that these sets were written with:

    {program} method=precomputed method.path='DIR/out/{{seed}}.npz' \\
      num_models={num} -m seed=0..{last}

It refuses sets that are missing or were made from other private sets.
"""
