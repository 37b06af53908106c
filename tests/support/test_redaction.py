"""Redaction: secrets leave a text, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcls.support.errors import DataError
from diffcls.support.redaction import redacted, redacted_values

SECRET = "a.marker-0123"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("token hf_abcdefghijklmnopqrstuvwx is wrong", "token hf_… is wrong"),
        ("https://user:pass word@x.org", "https://user:pass word@x.org"),
        ("https://user:p%40ss@x.org/a.tar, ftp://me:it@y", "https://…@x.org/a.tar, ftp://…@y"),
        ("https://x.org/a?X-Amz-Signature=ab12&b=1", "https://x.org/a?X-Amz-Signature=…&b=1"),
        (
            "'https://x.org/a?Expires=1&Key-Pair-Id=K&sig=ab%3D' and",
            "'https://x.org/a?Expires=1&Key-Pair-Id=K&sig=…' and",
        ),
        ("https://x.org/?access_token=a&api-key=b#c", "https://x.org/?access_token=…&api-key=…#c"),
    ],
)
def test_secrets_of_addresses_are_hidden(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "hf_model and hf_home",
        "hf:owner/data@main",
        "a@b.org wrote to c:d@e",
        "https://x.org/a?label=3&keyboard=1&monkey=2",
        "--model owner/name@0123456789abcdef --data-root ~/x",
        "a user: the password is token=3",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *(
            (one, True)
            for one in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "PASSWORD")
        ),
        *((one, True) for one in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD")),
        *((one, False) for one in ("TOKENIZERS_PARALLELISM", "KEYBOARD", "HF_HOME", "MONKEY")),
    ],
)
def test_values_of_secret_variables_are_hidden(
    name: str, is_secret: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, SECRET)
    text = f"Bearer {SECRET}: refused"
    assert redacted(text) == ("Bearer …: refused" if is_secret else text)
    assert (SECRET in str(DataError("wrong", given=SECRET))) != is_secret
    nested = {"a": [SECRET, {"b": SECRET}], "c": 3, "d": None}
    assert (SECRET in str(redacted_values(nested))) != is_secret
    monkeypatch.setenv(name, "short")
    assert redacted("a short text") == "a short text"


@given(st.text(max_size=60))
def test_redaction_of_any_text_changes_it_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
