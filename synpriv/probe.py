"""Whether a server answers, and whether one of W&B takes a key, known within two seconds."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable

TIMEOUT_S = 2.0
_QUERY = b'{"query": "query { viewer { id } }"}'
_LONGEST = 1 << 16  # bytes of an answer that are read
_KEY_REFUSED = "the key is not accepted"
# Also of a password that should have been quoted; cut too much rather than too little.
_USER = re.compile(r"(?<=://)(?:[^\s/:]*:\S*|[^\s/]*)@")
_SILENT = f"no answer within {TIMEOUT_S:g} s"


def without_password(text: str) -> str:
    """Text with its addresses, but without the user and password that stand in some of them."""
    return _USER.sub("", text)


def in_one_line(error: Exception) -> str:
    """What a client said, or the error's name where it has no text; no password of an address."""
    return without_password(" ".join(str(error).split())) or type(error).__name__


def refusal(url: str, key: str | None) -> str | None:
    """Why nothing can be uploaded there, in words; None if it can, or if only W&B itself can tell.

    `wandb.init` would wait longer and say less. key: None if the user identifies himself in another
    way.
    """
    return _in_time(lambda: _ask(without_password(url), key))


def silence(url: str) -> str | None:
    """Why a server gives no answer at all, in words; None if it gives any."""
    return _in_time(lambda: _knock(without_password(url)))


def _in_time(ask: Callable[[], str | None]) -> str | None:
    """Name resolution has no time limit of its own, hence the thread."""
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    return answers[0] if answers else _SILENT


def _knock(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError:
        return None
    except ValueError:
        return "it is no address"
    except (OSError, http.client.HTTPException) as error:
        return _lost(error)


def _ask(url: str, key: str | None) -> str | None:
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{key}".encode()).decode()
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/graphql", _QUERY, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as stream:
            answer = json.loads(stream.read(_LONGEST))
    except urllib.error.HTTPError as error:
        return _of_status(error.code, key)
    except ValueError:  # no URL, or no JSON
        return "it does not answer as W&B does"
    except (OSError, http.client.HTTPException) as error:
        return _lost(error)
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        return "it does not answer as W&B does"
    return _KEY_REFUSED if key is not None and not data.get("viewer") else None


def _lost(error: Exception) -> str | None:
    """Why there was no answer; a client may know certificates that Python does not."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return _SILENT
    return None if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)


def _of_status(status: int, key: str | None) -> str | None:
    if status in (401, 403):
        return None if key is None else f"HTTP {status}, {_KEY_REFUSED}"
    return None if status == 429 else f"HTTP {status}"
