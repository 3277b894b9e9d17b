"""upcheck: monitoring as code, in pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upcheck.plugin.mark import check
    from upcheck.redaction import secret
    from upcheck.rules.play import alert

__all__ = ["__version__", "alert", "check", "secret"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, because `check` brings pytest with it and the collector must never import that.
    if name == "check":
        from upcheck.plugin.mark import check

        return check
    if name == "alert":
        from upcheck.rules.play import alert

        return alert
    if name == "secret":
        from upcheck.redaction import secret

        return secret
    raise AttributeError(f"module 'upcheck' has no attribute '{name}'")
