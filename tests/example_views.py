"""Views of the page as audits would give them, from simulated scores with known leaks."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

from synpriv.report.html import shape

NUM_CANARIES = 120
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script><!--",
    "\"><img src=x onerror='alert(1)'>",
    "a & b &lt; 'c' $title {d} %{x} \\u003c",
    "\u202etxt.exe\u2066 \u2028 \u00e4\u00f6\U0001f600",
    "=HYPERLINK(1)" + "x" * 300,
    '<a href="https://example.org">here</a> <b>$x^2$</b>',
)
# method, leak in sd of the strongest canaries, accuracy, seconds, proven epsilon
METHODS = (
    ("undefended", 5.0, 0.91, 24.0, None),
    ("dpsgd_high", 0.05, 0.74, 61.0, 6.69e5),
    ("dpsgd_eps8", 0.5, 0.82, 60.0, 8.0),
    ("coreset_random", 2.8, 0.86, 9.0, None),
    ("coreset_herding", 1.2, 0.865, 46.0, None),
    ("distill_dm", 0.02, 0.80, 85.0, None),
    ("dfkd", 2.1, 0.84, 180.0, None),
    ("diffusion_scratch", 0.9, 0.79, 240.0, None),
)


def view_of(num_cells: int = 3, *, seed: int = 0, hostile: bool = False) -> shape.View:
    """A page of so many audits; hostile: names, labels and settings that want to be more."""
    rng = np.random.default_rng(seed)
    pictures = {f"p{i}": _png(rng.integers(0, 255, (14, 14))) for i in range(24)}
    cells = [cell_of(i, rng, list(pictures)) for i in range(num_cells)]
    if hostile:
        for i, cell in enumerate(cells):
            _make_hostile(cell, HOSTILE[i % len(HOSTILE)])
    for cell in cells[3::5]:
        cell["dominated_by"] = [cells[0]["id"], cells[2]["id"]]
    return {
        "title": "What synthetic data still leak",
        "version": "0.1.0",
        "family": f"marks corrected over {3 * num_cells} tests (Holm 1979)",
        "marks": {"*": "no more than chance alone gives", "?": "too few non-members for this FPR"},
        "legend": ["accuracy: of the method without wrong labels", "AUC [95%]: chance that ..."],
        "releases": [_release(cell) for cell in cells],
        "cells": cells,
        "heat": [_heat(cells, rng)] if num_cells > 1 else [],
        "missing": [{"name": "dfkd-digits-<b>", "why": "3 of 64 shadow models are trained"}],
        "pictures": pictures,
        "definitions": {"tpr": "largest with FPR <= target", "p": "one-sided"},
    }


def cell_of(index: int, rng: np.random.Generator, pictures: list[str]) -> shape.Cell:
    """One audit of 120 canaries in 32 models, of a leak that its method decides."""
    method, leak, accuracy, seconds, epsilon = METHODS[index % len(METHODS)]
    turn = index // len(METHODS)
    dataset, attack = ("digits", "fashion_mnist", "medical")[turn % 3], "lira"
    if turn >= 3:
        attack = "threshold"
    accuracy += 0.01 * rng.standard_normal()
    effects = leak * rng.beta(0.5, 1.5, NUM_CANARIES)
    members = (effects[:, None] + rng.standard_normal((NUM_CANARIES, 16))).ravel().round(3)
    others = rng.standard_normal(NUM_CANARIES * 16).round(3)
    kind: shape.Kind = "leak" if leak > 0.7 else "none" if leak > 0.03 else "unresolved"
    name = f"{method}, {dataset}, mislabelled, {attack}" + (f", lr 0.{turn}" if turn > 3 else "")
    rates = {f"tpr@fpr={fpr:g}": _rate(members, others, fpr) for fpr in (0.001, 0.01, 0.1)}
    all_canaries = _all_canaries(effects)
    releases_images = any(word in method for word in ("distill", "diffusion", "coreset"))
    return {
        **{"id": f"c{index}", "name": name, "short": method, "cell": f"{method}-{index:08x}"},
        **{"method": method, "paradigm": method.partition("_")[0], "dataset": dataset},
        **{"canary": "mislabelled", "attack": attack, "membership": "paired"},
        "partial": index % 11 == 6,
        "threat_model": "sees the released classifier and its logits; knows candidates and labels",
        "verdict": _verdict(kind, method, rates["tpr@fpr=0.01"]),
        "plain": f"About 1 in {index + 2} of the worst-case images is found.",
        "comparable": f"{dataset}/{attack}",
        "dominated_by": [],
        "dominated_at": "TPR at 1% FPR",
        "accuracy": beside(accuracy, 0.006, f"{accuracy:.3f} ± 0.006", "undefended 0.910"),
        "random_subset": "random subset of as many 0.861" if "coreset" in method else None,
        "rates": rates,
        "auc": beside(0.5 + leak / 12, 0.02, f"{0.5 + leak / 12:.3f}", "chance 0.48 to 0.52"),
        "epsilon_proven": "none" if epsilon is None else f"{epsilon:.3g} (delta 1e-05)",
        "epsilon_bound": beside(leak / 3, 0.0, f"{leak / 3:.2f} of 6.2", "proven: none"),
        "nearness": beside(0.17, 0.02, "84 of 500", "chance 49", (0.09, 0.11))
        if releases_images
        else None,
        "nearness_in_words": "84 of 500 pairs are nearer; chance gives 49"
        if releases_images
        else None,
        "quality": "FID 0.57, precision 0.88, recall 0.88" if "distill" in method else None,
        "train_s": None if index % 13 == 12 else seconds,
        "train_flops": None if index % 5 == 4 else 1e10 * seconds,
        "stages": _stages(seconds),
        "points": _points(rates, leak, accuracy),
        "roc": _curve(members, others),
        "scores": scores_of(members, others),
        **{"n_in": members.size, "n_out": others.size, "num_models": 32},
        "num_canaries": NUM_CANARIES,
        "most_exposed_null": 2.5,
        "canaries": [_canary(all_canaries, i, pictures) for i in range(10)],
        "all_canaries": all_canaries,
        "settings": _settings(method, dataset, turn),
        "provenance": ["real pixels", "labels", "selection scores"],
        "about": ["convnet of width 16, batch norm", "5,000 private images of 10 classes"],
        "warnings": ["models were trained by two versions of the code"] if index % 3 == 1 else [],
    }


def _all_canaries(effects: np.ndarray) -> shape.AllCanaries:
    """Every canary, the largest effect first."""
    order = np.argsort(-effects)
    labels = ["coat", "shirt", "sandal", "bag"]
    return {
        "canary": [int(c) for c in order],
        "place": [None if c % 7 == 0 else f"row {13 * c}" for c in order],
        "trained_label": [labels[c % 4] for c in order],
        "true_label": [labels[(c + 1) % 4] for c in order],
        "effect": [round(float(effects[c]), 3) for c in order],
        "found": [round(float(min(1, effects[c] / 4)), 3) for c in order],
        "accused": [0.01 for _ in order],
    }


def beside(
    value: float | None,
    half: float,
    in_words: str,
    reference: str,
    band: tuple[float, float] | None = None,
) -> shape.Beside:
    """A number, its interval and its reference."""
    low, high = (None, None) if value is None else (value - half, value + half)
    ends = band or (None, None)
    return {
        **{"value": value, "low": low, "high": high, "in_words": in_words},
        **{"reference": reference, "reference_low": ends[0], "reference_high": ends[1]},
    }


def scores_of(members: np.ndarray, others: np.ndarray, num: int = 200) -> shape.Scores:
    """Histograms, and counts at thinned thresholds, counted one by one."""
    edges = np.linspace(min(members.min(), others.min()), max(members.max(), others.max()), 41)
    every = np.unique(np.concatenate([members, others]))[::-1]
    kept = every[np.unique(np.geomspace(1, every.size, num).astype(int) - 1)]
    return {
        "edges": [float(edge) for edge in edges],
        "members": np.histogram(members, edges)[0].tolist(),
        "non_members": np.histogram(others, edges)[0].tolist(),
        "thresholds": [float(t) for t in kept],
        "true_positives": [int((members >= t).sum()) for t in kept],
        "false_positives": [int((others >= t).sum()) for t in kept],
    }


def _rate(members: np.ndarray, others: np.ndarray, fpr: float) -> shape.Beside:
    threshold = np.sort(others)[::-1][int(fpr * others.size)]
    tpr = float((members > threshold).mean())
    half = 2 * (tpr * (1 - tpr) / members.size) ** 0.5
    mark = "" if tpr > 2 * fpr else "*"
    mark += "?" if fpr * others.size < 10 else ""
    interval = f"[{100 * max(tpr - half, 0):.2f}, {100 * (tpr + half):.2f}]"
    words = f"{100 * tpr:.2f}%{mark} {interval}"
    chance = f"chance 0 to {200 * fpr:g}%"
    return beside(tpr, half, words, chance, (0.0, 2 * fpr))


def _verdict(kind: shape.Kind, method: str, rate: shape.Beside) -> shape.Verdict:
    says = {
        "leak": "evidence of a leak",
        "none": "no evidence at this FPR",
        "unresolved": "not resolvable with these canaries and models",
    }
    return {
        "kind": kind,
        "words": says[kind],
        "sentence": f"Of {NUM_CANARIES} mislabelled canaries in 32 models of {method}, an attacker "
        f"who sees the released classifier finds {rate['in_words']} of the members at 1% FPR.",
        "reasons": [
            "TPR at 1% FPR is above what chance gives (p = 0.001, corrected over 24 tests)",
            "AUC says nothing about the tail and is not what decides here",
        ],
    }


def _points(rates: dict[str, shape.Beside], leak: float, accuracy: float) -> list[shape.Point]:
    def at(panel: str, number: tuple[float, float, float], above: bool) -> shape.Point:
        y, low, high = number
        ends = {"y": y, "y_low": max(low, 0.0), "y_high": min(high, 1.0)}
        return {"panel": panel, "x": accuracy, "x_half": 0.006, **ends, "above_chance": above}

    found = []
    for key in ("tpr@fpr=0.01", "tpr@fpr=0.1"):
        rate = rates[key]
        y = 0.0 if leak == 0.02 and key == "tpr@fpr=0.01" else rate["value"]
        assert y is not None
        assert rate["low"] is not None
        assert rate["high"] is not None
        assert rate["reference_high"] is not None
        above = y > rate["reference_high"]
        found.append(at(key, (y, min(y, rate["low"]), rate["high"]), above))
    auc = 0.5 + leak / 12
    return [*found, at("auc", (auc, auc - 0.02, auc + 0.02), leak > 0.3)]


def _curve(members: np.ndarray, others: np.ndarray) -> shape.Curve:
    counts = np.unique(np.geomspace(1, others.size, 120).astype(int))
    falling = np.sort(others)[::-1]
    return {
        "fpr": [0.0, *(float(k / others.size) for k in counts)],
        "tpr": [
            float((members > falling[0]).mean()),
            *(float((members >= falling[k - 1]).mean()) for k in counts),
        ],
        "resolved_from": 10 / others.size,
    }


def _canary(table: shape.AllCanaries, i: int, pictures: list[str]) -> shape.Canary:
    number = table["canary"][i]
    nearest: shape.Nearest | None = None
    if i % 3:
        nearest = {"picture": pictures[(number + 1) % len(pictures)], "seed": number % 8}
        nearest |= {"distance": 0.25 + 0.01 * i, "as_near": i, "out": 16, "chance": 0.5}
    return {
        **{"canary": number, "place": table["place"][i], "effect": table["effect"][i]},
        **{"trained_label": table["trained_label"][i], "true_label": table["true_label"][i]},
        **{"found": table["found"][i], "accused": table["accused"][i]},
        "picture": None if i == 9 else pictures[number % len(pictures)],
        "nearest": nearest,
        "no_picture": "its image was not kept" if i == 9 else None,
        "no_nearest": None if i % 3 else "the pairs of its models are lost or were not kept",
    }


def _stages(seconds: float) -> list[shape.StageCost]:
    return [
        {
            **{"stage": stage, "wall_s": share * seconds, "cpu_s": 0.9 * share * seconds},
            **{"peak_mb": peak, "rise_mb": None if stage == "query" else peak / 10},
            "flops": None if stage == "student" else 1e10 * share * seconds,
        }
        for stage, share, peak in (
            ("fit", 0.8, 812.0),
            ("student", 0.15, 640.5),
            ("query", 0.05, 410),
        )
    ]


def _settings(method: str, dataset: str, turn: int) -> dict[str, Any]:
    named = {"dataset.name": dataset, "dataset.flip": True, "dataset.mean": [0.5]}
    named |= {"model._target_": "convnet", "model.width": 16, "method.name": method}
    named |= {f"method.student.option_{i}": i / 8 for i in range(40)}
    return named | {"method.lr": 0.1 * turn, "audit_seed": 0, "method.student.ema_decay": None}


def _release(cell: shape.Cell) -> shape.Release:
    verdict = cell["verdict"]
    return {
        **{"name": f"{cell['short']} ({cell['dataset']})", "kind": verdict["kind"]},
        **{"baseline": cell["method"] == "undefended", "words": verdict["words"]},
        **{"cells": [cell["id"]], "found": cell["plain"], "partial": cell["partial"]},
        **{"advice": f"Advice on {cell['name']}.", "audits": f"By {cell['attack']}."},
    }


def _heat(cells: list[shape.Cell], rng: np.random.Generator) -> shape.Heat:
    rows = [cell["name"] for cell in cells[:12]]
    values = np.sort(rng.gamma(1.0, 2.0, (len(rows), 40)), axis=1)[:, ::-1].round(2).tolist()
    values[0][3] = None
    return {
        "title": "digits, mislabelled: effect size of the same canaries",
        **{"rows": rows, "columns": [int(c) for c in rng.permutation(40)], "values": values},
        "chance": [2.5 for _ in rows],
    }


def _make_hostile(cell: shape.Cell, word: str) -> None:
    for key in ("name", "short", "cell", "method", "dataset", "canary", "attack", "threat_model"):
        cell[key] = word  # type: ignore[literal-required]
    cell["paradigm"], cell["plain"] = "constructor", word
    cell["verdict"] |= {"words": word, "sentence": word, "reasons": [word]}
    cell["settings"] |= {word: word}
    cell["warnings"], cell["about"], cell["provenance"] = [word], [word], [word]
    cell["stages"][0]["stage"] = word
    cell["random_subset"], cell["accuracy"]["reference"] = word, word
    cell["canaries"][0] |= {"trained_label": word, "true_label": word, "place": word}
    cell["all_canaries"]["place"][0] = word
    cell["all_canaries"]["trained_label"][0] = word


def _png(pixels: np.ndarray) -> str:
    """A grey picture of 14 x 14 as a data URI."""
    rows = b"".join(b"\0" + bytes(row.astype(np.uint8)) for row in pixels)
    head = struct.pack(">IIBBBBB", *pixels.shape[::-1], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(whole).decode()}"
