"""Build the wheel and the sdist with the packaged app in them, reproducibly: python .ci/dist.py OUT.

With REPOSITORY_URL, as https://github.com/OWNER/NAME, they link to the documents of the version's tag. Both are built
from a copy of the tracked files with one date and one mode, so that a checkout's own files and times don't matter.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
_PICTURE = re.compile(r"<picture>.*?</picture>\n\n", re.DOTALL)
_RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:|#)([^)#]+)(#[^)]*)?\)")
_COPIED = ("rolecall", "chalicelib", "pyproject.toml", "README.md", "LICENSE")
_BUILD = """
import sys
from setuptools import build_meta

out = sys.argv[1]  # which setuptools replaces
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""


def build(out: Path) -> list[Path]:
    """Build both, in place of earlier ones, and return their paths."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    epoch = int(_git("log", "-1", "--format=%ct"))
    with TemporaryDirectory() as directory:
        copy, made = Path(directory, "copy"), Path(directory, "made")
        _copy(copy)
        subprocess.run([sys.executable, ROOT / ".chalice" / "package.py", copy / "rolecall" / "app"], check=True)
        _set_times(copy, epoch)
        made.mkdir()
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run([sys.executable, "-c", _BUILD, made], cwd=copy, env=environment, check=True, capture_output=True)
        (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
        (out / sdist.name).write_bytes(reproducible_sdist(sdist, epoch))
        shutil.copyfile(wheel, out / wheel.name)
    return [out / wheel.name, out / sdist.name]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _copy(copy: Path) -> None:
    for name in _git("ls-files", "-co", "--exclude-standard", "--", *_COPIED).splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    documents = None
    if repository := os.environ.get("REPOSITORY_URL"):
        (version,) = re.findall(
            r'^__version__ = "(.+)"$', (copy / "rolecall" / "__init__.py").read_text(), re.MULTILINE
        )
        documents = f"{repository}/blob/v{version}"
        with (copy / "pyproject.toml").open("a", encoding="utf-8") as project:
            project.write(
                f'\n[project.urls]\nSource = "{repository}"\nDocumentation = "{documents}/README.md#documentation"\n'
                f'Changes = "{documents}/CHANGELOG.md"\nIssues = "{repository}/issues"\n'
            )
    readme = copy / "README.md"
    readme.write_text(long_description(readme.read_text(encoding="utf-8"), documents), encoding="utf-8")


def long_description(readme: str, documents: str | None) -> str:
    """Return README for a package index, which has neither its picture nor its documents.

    Links lead to the documents at an URL, or become the documents' names if there is none.
    """
    linked = rf"[\1]({documents}/\2\3)" if documents else r"\1 (\2)"
    return _RELATIVE_LINK.sub(linked, _PICTURE.sub("", readme))


def _set_times(directory: Path, epoch: int) -> None:
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def reproducible_sdist(path: Path, epoch: int) -> bytes:
    """Return an sdist with sorted entries that have no owner and one date."""
    content, compressed = BytesIO(), BytesIO()
    with tarfile.open(path) as source, tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as target:
        for entry in sorted(source.getmembers(), key=lambda each: each.name):
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname, entry.pax_headers = epoch, 0, 0, "", "", {}
            entry.mode = 0o755 if entry.isdir() else 0o644
            target.addfile(entry, source.extractfile(entry) if entry.isfile() else None)
    with gzip.GzipFile(fileobj=compressed, mode="wb", mtime=epoch, filename="") as archive:
        archive.write(content.getvalue())
    return compressed.getvalue()


if __name__ == "__main__":
    for built in build(Path(sys.argv[1]).resolve()):
        print(built)
