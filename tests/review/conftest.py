"""One Chromium for all the browser tests of a process, and an expert for each."""

from browsing import browser, page

__all__ = ["browser", "page"]
