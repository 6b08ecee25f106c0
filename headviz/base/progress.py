"""How a long step tells how far it is, and how it is stopped. Knows nothing of the steps."""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and what is being done; raises Cancelled to stop."""


def no_progress(share: float, what: str) -> None:
    """Reports nothing."""
