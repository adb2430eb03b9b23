"""The documents that messages name: an installed wheel doesn't contain them, and a release links them on the web."""

import re
from collections.abc import Iterable
from functools import cache

_NAME = re.compile(r"\bdocs/[\w./-]+\.(?:md|yaml|json)(?:#[\w-]+)?")


def linked(text: str, url: str | None = None) -> str:
    """Return a text in which the documents' names follow a URL, by default that of the installed release.

    In a checkout there is none, and the text is returned as it is.
    """
    base = _installed_url() if url is None else url
    return _NAME.sub(lambda name: f"{base}{name[0]}", text) if base else text


@cache
def _installed_url() -> str:
    from importlib.metadata import PackageNotFoundError, metadata  # noqa: PLC0415 - most commands name no document

    try:
        return documents_url(metadata("rolecall").get_all("Project-URL") or ())
    except PackageNotFoundError:
        return ""


def documents_url(project_urls: Iterable[str]) -> str:
    """Return the URL that the documents' names follow, or an empty text: only a release's metadata has it (.ci/dist.py)."""
    urls = dict(each.split(", ", 1) for each in project_urls)
    return urls.get("Documentation", "").partition("README.md")[0]
