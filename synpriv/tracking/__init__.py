"""Mirrors of runs and audits: they never block, prompt or stop a run. Local files are the source.

`track` gives the configured one, `mirror` sends an audit to W&B that is on disk.
"""

from synpriv.tracking.base import NoTracker as NoTracker
from synpriv.tracking.base import Tracker as Tracker
from synpriv.tracking.configured import check as check
from synpriv.tracking.configured import is_awaited as is_awaited
from synpriv.tracking.configured import settle as settle
from synpriv.tracking.configured import track as track
from synpriv.tracking.csv import CsvTracker as CsvTracker
from synpriv.tracking.findings import Findings as Findings
from synpriv.tracking.wandb import WandbTracker as WandbTracker
from synpriv.tracking.wandb import mirror as mirror
