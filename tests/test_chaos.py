"""A results folder hit by chance: bits flip, processes die; no wrong figure, nothing lost."""

import random
from pathlib import Path

import pytest
from conftest import Compose
from omegaconf import DictConfig

from synpriv import config, pipeline, summary
from synpriv.report.__main__ import audited
from synpriv.shadow import cells, check, outputs

CORESET = [
    *("dataset.num_train=120", "dataset.num_test=40", "canary.num_canaries=20", "num_models=6"),
    *("model.width=4", "logger=none", "trainer=cpu", "method=coreset_el2n"),
    *("method.student.num_epochs=1", "method.student.warmup_epochs=0"),
    *("method.proxy.num_epochs=2", "method.proxy.warmup_epochs=0", "attack=threshold"),
]
NUM_FLIPS, AT_ONCE = 300, 3


def confirmed(cfg: DictConfig, capsys: pytest.CaptureFixture[str]) -> str:
    """All that a finished sweep and the report command say of a cell."""
    check.confirm(cfg)
    check.warn_of_code(cfg)
    outputs.warn(cfg)
    pipeline.audit_if_complete(cfg, partial=False)
    text = summary.summary([cfg])
    methods = [report["method"] for report, _ in audited(Path(cfg.results))]
    return f"{text}\nreported: {methods}\n{''.join(capsys.readouterr())}"


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("coreset_el2n ")]


@pytest.mark.slow
def test_300_flipped_bits_show_no_wrong_figure_and_are_healed_or_named(
    compose: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = random.Random(0)
    configs = [compose(*CORESET, f"results={tmp_path}", f"seed={seed}") for seed in range(6)]
    for cfg in configs:
        pipeline.run(cfg)
    cfg = compose(*CORESET, f"results={tmp_path}", "verify=true")
    (shown,) = table(confirmed(cfg, capsys))
    whole = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file() and f.name != ".lock"}
    kinds: dict[tuple[str, str], list[Path]] = {}
    for file in whole:
        kinds.setdefault((file.relative_to(tmp_path).parts[0], file.name), []).append(file)
    own, proxy = cells.cell_of(cfg), cells.cell_of(config.of_prerequisite(cfg, "proxy"))
    assert len([kind for kind in kinds if kind[0] == own.name]) == 10
    assert len([kind for kind in kinds if kind[0] == proxy.name]) == 5
    healed = named = 0
    for _ in range(NUM_FLIPS // AT_ONCE):
        flipped = {rng.choice(kinds[kind]) for kind in rng.sample(sorted(kinds), AT_ONCE)}
        for file in flipped:
            content = bytearray(whole[file])
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
        caplog.clear()
        text = confirmed(cfg, capsys) + caplog.text
        assert set(table(text)) <= {shown}, flipped
        assert "reported: ['coreset_el2n']" in text or "left out" in text
        for file in flipped:
            if file.read_bytes() == whole[file]:
                healed += 1
                continue
            # What lies beside a damaged report is as good as it is: nothing vouches for it.
            by = "threshold.json" if file.parent == own.folder else file.name
            assert any(f"{file.parent.name}/{name}" in text for name in (file.name, by)), file
            named += 1
            file.write_bytes(whole[file])
    confirmed(cfg, capsys)
    assert {f: f.read_bytes() for f in whole} == whole
    assert healed + named == NUM_FLIPS
    assert min(healed, named) > NUM_FLIPS / 5
