"""TPR at a fixed FPR by trying every threshold."""

from collections.abc import Sequence


def tpr_at_fpr(values: Sequence[float], member: Sequence[bool], fpr: float) -> float:
    """Largest TPR of any rule "member if value >= threshold" whose FPR is <= `fpr`."""
    inside = [value for value, is_in in zip(values, member, strict=True) if is_in]
    outside = [value for value, is_in in zip(values, member, strict=True) if not is_in]
    best = 0.0
    for threshold in values:
        false_positives = sum(value >= threshold for value in outside)
        if false_positives / len(outside) <= fpr:
            best = max(best, sum(value >= threshold for value in inside) / len(inside))
    return best
