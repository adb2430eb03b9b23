"""The demo compares README's excerpt of its output with what it prints."""

from pathlib import Path

import pytest

from local.demo_excerpt import absent_lines

README = (Path(__file__).parents[2] / "README.md").read_text()
PRINTED = "{}\n ✔ deployed in 7.2 s\n  role arn:aws:iam::444455556666:role/Reader (closed)\n"


@pytest.mark.parametrize(
    ("line", "is_printed"),
    [
        (" ✔ deployed in 11.0 s", True),
        ("  role arn:aws:iam::111122223333:role/Reader (closed)", True),
        ("  role …:role/Reader (…)", True),
        (" ✔ deployed with CloudFormation in 7.2 s", False),
        ("  role arn:aws:iam::111122223333:role/Reader (pending_closure)", False),
        ("✔ deployed in 7.2 s", False),
    ],
)
def test_excerpt_has_only_lines_that_the_demo_prints(line: str, is_printed: bool) -> None:
    readme = f"From the output of `make demo`:\n\n```text\n{line}\n```\n"
    assert list(absent_lines(readme, PRINTED)) == ([] if is_printed else [line])


def test_readme_has_an_excerpt() -> None:
    assert len(list(absent_lines(README, ""))) == 12
