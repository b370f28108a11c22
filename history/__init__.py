"""The library for applications: chat sessions in Memorystore that sleep in Cloud Storage.

`torpor` has the names that an application needs, `torpor.history.protocol` those that only the worker needs.
"""

from typing import TYPE_CHECKING

if __name__ == "history":  # imported from the root of a checkout
    from torpor import _checkout

    _checkout.alias(__name__)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A public name of `torpor`, so that `from history import ...` works in a checkout."""
        import torpor

        if name in torpor.__all__:
            return getattr(torpor, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
