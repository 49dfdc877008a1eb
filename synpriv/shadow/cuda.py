"""What torch can use of CUDA; as a program it answers for `hardware`, which imports no torch."""

from __future__ import annotations

import json
import warnings

import torch


def why_not() -> str:
    """Why no CUDA device is available, in torch's own words; empty if one is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same words over several lines
        if torch.cuda.is_available():
            return ""
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            return str(error).partition("\n")[0].partition(". ")[0].removesuffix(".")
    return "no reason given"


def answer() -> tuple[int, int, str]:
    """Number of devices, the least free memory of any in bytes, why there is none."""
    if why := why_not():
        return 0, 0, why
    count = torch.cuda.device_count()
    return count, min(torch.cuda.mem_get_info(i)[0] for i in range(count)), ""


if __name__ == "__main__":
    print(json.dumps(answer()))
