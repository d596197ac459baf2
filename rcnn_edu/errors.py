"""The one error that programs show as a single line and exit code 2: something the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, with a message that names the thing and the remedy."""
