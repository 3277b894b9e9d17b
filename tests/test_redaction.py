"""What is a secret, how it may be written, and that nothing else is touched."""

from __future__ import annotations

import base64
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upcheck.redaction import MASK, _hide_all, redacted, redacted_values, secret

VALUE = "s3cr3t/Val+ue &\"0123'456789\\xyz=="


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("API_TOKEN", VALUE)
    return VALUE


@pytest.mark.parametrize(
    "name",
    [
        "METRICS_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "DB_PASSWORD",
        "MYSQL_ROOT_PASSWD", "SMTP_PASS", "PASS", "DB_PWD", "STRIPE_API_KEY", "OPENAI_APIKEY", "PRIVATE_KEY",
        "SIGNING_KEY_2", "SENTRY_DSN", "SLACK_WEBHOOK_URL", "GOOGLE_CREDENTIALS", "AZURE_STORAGE_CONNECTION_STRING",
        "NPM_AUTH", "GH_PAT", "token", "SECRET_KEY", "KEY_PASSPHRASE",
    ],
)  # fmt: skip
def test_a_name_that_says_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "value-of-it")
    assert redacted("the value-of-it is") == "the *** is"


@pytest.mark.parametrize(
    "name",
    ["PWD", "HOME", "PATH", "METRICS_TOKEN_FILE", "GIT_ASKPASS", "SSH_AUTH_SOCK", "COMPASS", "DB_PASSWORD_FILE",
     "OAUTH_TOKEN_URL", "KEYBOARD", "PATTERN", "TOKEN_TTL", "CREDENTIALS_DIRECTORY"],
)  # fmt: skip
def test_a_name_that_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, f"/run/{name[::-1]}")
    assert redacted(f"the /run/{name[::-1]} is") == f"the /run/{name[::-1]} is"


def test_short_values_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "12345")
    assert redacted("12345") == "12345"


@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        quote(VALUE),
        re.sub("%..", lambda found: found[0].lower(), quote(VALUE, safe="")),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        json.dumps({"a": VALUE}),
        repr(VALUE),
        repr([VALUE, "'"]),
        repr(VALUE.encode()),
        VALUE[:20] + "...",
        VALUE[:9] + "..." + VALUE[-8:],
        "Skipping 12 identical leading characters\n- " + VALUE[10:],
        f"\x1b[33m{VALUE[:7]}\x1b[39m{VALUE[7:]}",
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
        *(
            base64.b64encode((user + ":" + VALUE + end).encode()).decode()
            for user in ("a", "ab", "abc")
            for end in ("", "\n", "ab")
        ),
    ],
)
def test_however_it_is_written(token: str, written: str) -> None:
    told = redacted(f"before {written} after")
    assert MASK in told
    assert (told[:7], told[-6:]) == ("before ", " after")
    for size in (5, 8):
        shown = [token[at : at + size] for at in range(len(token) - size) if token[at : at + size] in told]
        assert shown == []
    middle = base64.b64encode(token.encode()).decode()[8:-8]
    assert middle not in told


def test_lines_of_a_key_are_hidden_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    key = (
        "-----BEGIN KEY-----\n"
        + "\n".join(f"{n}bcdefghijklmnopqrstuvwxyz/{n}" for n in range(9))
        + "\n-----END KEY-----\n"
    )
    monkeypatch.setenv("PRIVATE_KEY", key)
    told = redacted("".join(f"E     - {line}\n" for line in key.splitlines()))
    assert "bcdefgh" not in told
    assert told.count("\n") == key.count("\n")


def test_of_a_url_who_asks_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redacted("GET https://me:pa55@host/a?b https://you@host") == "GET https://***@host/a?b https://***@host"
    assert redacted("mail me@host, see https://host/@me and 'https://host' or a@b") == (
        "mail me@host, see https://host/@me and 'https://host' or a@b"
    )
    monkeypatch.setenv("DATABASE_URL", "postgres://app:hunter%2F22@db/shop")
    assert (
        redacted("auth failed for app with hunter/22 or hunter%2F22 at db/shop")
        == "auth failed for app with *** or *** at db/shop"
    )


def test_what_is_given_and_what_a_variable_held_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret("given-at-run-time") == "given-at-run-time"
    monkeypatch.setenv("API_TOKEN", "the-first-one")
    assert redacted("the-first-one given-at-run-time") == "*** ***"
    monkeypatch.setenv("API_TOKEN", "and-a-second")
    assert redacted("the-first-one and-a-second") == "*** ***"
    for number in range(1000):
        secret(f"rotated-{number:04}")
    assert redacted("rotated-0001 rotated-0999 and-a-second") == "rotated-0001 *** ***", "memory is bounded"


def test_a_variable_of_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"API_TOKEN", b"no-\xff-text")
    assert redacted(f"is {os.environ['API_TOKEN']} or no-%FF-text or {b'no-%s-text' % bytes([255])!r}") == (
        "is *** or *** or b'***'"
    )


def test_nothing_is_made_anew_without_a_change(token: str) -> None:
    redacted("x")
    before = _hide_all.cache_info().misses
    for _ in range(100):
        redacted(token)
    assert _hide_all.cache_info().misses == before


def test_values_in_values(token: str) -> None:
    given = {"a": [token, 1, None, (token, 2.5)], token: True}
    assert redacted_values(given, redacted) == {"a": [MASK, 1, None, (MASK, 2.5)], token: True}


@pytest.mark.serial
@given(st.text(alphabet="abc. :/@'\"\\%\x1b[0m", max_size=60), st.text(alphabet="abc/.'", min_size=6, max_size=30))
def test_any_text_around_a_secret(around: str, value: str) -> None:
    hide = _hide_all((value,))
    assert value not in hide(f"{around}{value}{around}")
    assert hide("nothing of it: 12345") == "nothing of it: 12345"


def test_threads_may_ask_while_others_tell(token: str) -> None:
    def ask(number: int) -> set[str]:
        values = (secret(f"of-thread-{number}-{turn}") for turn in range(50))
        return {redacted(f"{value} {token}") for value in values}

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(ask, range(4))) == {"*** ***"}
