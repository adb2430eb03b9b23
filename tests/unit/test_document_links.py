"""Messages of a release link the documents that they name; those of a checkout name them."""

import pytest

from rolecall.document_links import documents_url, linked

SOURCE = "Source, https://git.example/rolecall"
DOCUMENTATION = "Documentation, https://git.example/rolecall/blob/v1.2.3/README.md#documentation"


@pytest.mark.parametrize(
    ("project_urls", "url"),
    [
        ([SOURCE, DOCUMENTATION], "https://git.example/rolecall/blob/v1.2.3/"),
        ([SOURCE], ""),
        ([], ""),
    ],
)
def test_documents_are_at_the_url_of_the_release(project_urls: list[str], url: str) -> None:
    assert documents_url(project_urls) == url


def test_names_of_documents_become_urls() -> None:
    text = "as docs/a.json does (docs/b.md); see docs/runbook.md#quota."
    linked_text = "as https://x/docs/a.json does (https://x/docs/b.md); see https://x/docs/runbook.md#quota."
    assert linked(text, "https://x/") == linked_text
    assert linked(text, "") == text


def test_checkout_names_its_documents() -> None:
    assert linked("docs/b.md") == "docs/b.md"
