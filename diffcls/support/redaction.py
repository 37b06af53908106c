"""Redaction: tokens, passwords and signatures of addresses leave texts that are kept or printed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

SECRET_VARIABLE = re.compile(r"(?:^|_)(?:TOKEN|API_?KEY|ACCESS_KEY|SECRET|PASSWORD)$")
"""Names of environment variables whose values are secrets, such as ``HF_TOKEN``."""
MIN_LENGTH = 8
"""Shorter values are left alone: they are no tokens, and would occur in other words."""
HIDDEN = "…"

TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
PASSWORD = re.compile(r"(?<=://)[^/\s@'\"]+:[^/\s@'\"]+(?=@)")
SIGNATURE = re.compile(
    r"([?&](?:[\w-]*[_-])?(?:token|signature|sig|credential|secret|password|key|policy)=)"
    r"[^&\s'\"#]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """A text without secrets, each of which becomes ``…``.

    Secrets are the values of environment variables such as ``HF_TOKEN``, tokens of the Hub, and in
    addresses ``user:password@`` and the values of parameters such as ``X-Amz-Signature``.
    """
    for value in _values(os.environ):
        text = text.replace(value, HIDDEN)
    if "hf_" in text:
        text = TOKEN.sub(f"hf_{HIDDEN}", text)
    if "://" in text:
        text = SIGNATURE.sub(rf"\1{HIDDEN}", PASSWORD.sub(HIDDEN, text))
    return text


def redacted_values(value: Any) -> Any:
    """A value of plain JSON types whose texts are redacted; keys stay as they are."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: redacted_values(one) for key, one in value.items()}
    return [redacted_values(one) for one in value] if isinstance(value, list | tuple) else value


def _values(environment: Mapping[str, str]) -> list[str]:
    found = {
        value
        for name, value in environment.items()
        if len(value) >= MIN_LENGTH and SECRET_VARIABLE.search(name)
    }
    return sorted(found, key=len, reverse=True)  # a secret may contain another
