"""A worker in a Ray cluster: an actor that keeps its process, its GPU and its imports."""

from __future__ import annotations

import os
import socket

from hydra_plugins.synpriv import _worker
from hydra_plugins.synpriv._site import Site


class Actor:
    """Runs one job after the other; `ray.remote` makes it an actor."""

    def begin(self, site: Site, *, has_gpu: bool) -> str:
        """Be ready for jobs, or ValueError if this node cannot share results; the node's name."""
        site.enter()
        _worker.begin(site.folder, site.shared, "gpu" if has_gpu else "cpu")
        if not has_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return socket.gethostname()

    def work(self, overrides: list[str], number: int) -> bytes:
        """A job and its result, as `_worker.work` does it."""
        return _worker.work(overrides, number)
