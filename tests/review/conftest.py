"""One Chromium for all the browser tests of a process."""

from browsing import browser

__all__ = ["browser"]
