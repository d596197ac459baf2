"""The VOC download, against a small server on this machine that serves small archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from torchvision.datasets.voc import DATASET_YEAR_DICT

from rcnn_edu.data import VOCDataset
from rcnn_edu.data.download import download_voc
from rcnn_edu.errors import UserError

ARCHIVES = {"2007": ("2007", "trainval"), "2007-test": ("2007", "test"), "2012": ("2012", "trainval")}


def voc_tar(year: str, split: str) -> bytes:
    """An archive as VOC's are, with one image."""
    image = io.BytesIO()
    Image.new("RGB", (40, 30)).save(image, "JPEG")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    files = {
        f"JPEGImages/{year}_{split}.jpg": image.getvalue(),
        f"Annotations/{year}_{split}.xml": f"<annotation><object><name>cat</name>{box}</object></annotation>".encode(),
        f"ImageSets/Main/{split}.txt": f"{year}_{split}\n".encode(),
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"VOCdevkit/VOC{year}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files` by name; `cut` bytes are missing at the end of each."""

    files: dict[str, bytes]
    fetched: list[str]
    cut = 0
    url: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may hang up."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.server.fetched.append(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server in place of VOC's, which torchvision is told of, md5 and all."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.fetched = {}, []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        for key, (year, split) in ARCHIVES.items():
            content, name = voc_tar(year, split), f"{key}.tar"
            server.files[name] = content
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            changes = {"url": f"{server.url}/{name}", "filename": name, "md5": md5}
            monkeypatch.setitem(DATASET_YEAR_DICT, key, DATASET_YEAR_DICT[key] | changes)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def error_of(folder: Path, name: str = "voc2007") -> str:
    """The message with which the download fails; it must be one line."""
    with pytest.raises(UserError) as caught:
        download_voc(name, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_voc2007(server: Server, tmp_path: Path) -> None:
    train, test = download_voc("voc2007", tmp_path / "new" / "folder")
    root = tmp_path / "new" / "folder" / "VOCdevkit" / "VOC2007"
    assert train == [(root, "trainval")]
    assert test == [(root, "test")]
    assert VOCDataset(*train[0]).image_ids == ["2007_trainval"]
    assert VOCDataset(*test[0]).image_ids == ["2007_test"]
    assert server.fetched == ["2007.tar", "2007-test.tar"] or set(server.fetched) == {"2007.tar", "2007-test.tar"}


def test_voc0712(server: Server, tmp_path: Path) -> None:
    train, test = download_voc("voc0712", str(tmp_path))
    devkit = tmp_path / "VOCdevkit"
    assert train == [(devkit / "VOC2007", "trainval"), (devkit / "VOC2012", "trainval")]
    assert test == [(devkit / "VOC2007", "test")]
    assert [VOCDataset(*place).image_ids for place in train] == [["2007_trainval"], ["2012_trainval"]]


def test_what_is_there_is_neither_fetched_nor_unpacked_again(server: Server, tmp_path: Path) -> None:
    first = download_voc("voc2007", tmp_path)
    server.fetched.clear()
    image = tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "2007_test.jpg"
    before = image.stat().st_mtime_ns, image.stat().st_ctime_ns
    for archive in tmp_path.glob("*.tar"):
        archive.unlink()  # to save space, say
    assert download_voc("voc2007", tmp_path) == first
    assert (image.stat().st_mtime_ns, image.stat().st_ctime_ns) == before
    assert server.fetched == []


def test_an_archive_put_in_place_by_hand_is_used(server: Server, tmp_path: Path) -> None:
    for name in ("2007.tar", "2007-test.tar"):
        (tmp_path / name).write_bytes(server.files.pop(name))
    train, _ = download_voc("voc2007", tmp_path)
    assert len(VOCDataset(*train[0])) == 1
    assert server.fetched == []


def test_an_interrupted_unpacking_is_done_again(server: Server, tmp_path: Path) -> None:
    train, _ = download_voc("voc2007", tmp_path)
    root, _ = train[0]
    (root / ".2007.tar.unpacked").unlink()
    (root / "JPEGImages" / "2007_trainval.jpg").unlink()
    server.fetched.clear()
    download_voc("voc2007", tmp_path)
    assert len(VOCDataset(root)) == 1
    assert server.fetched == []


def test_a_wrong_md5_is_refused_and_nothing_is_unpacked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASET_YEAR_DICT["2007"], "md5", "0" * 32)
    message = error_of(tmp_path)
    for word in (f"{server.url}/2007.tar", "corrupted", "mirror", str(tmp_path / "2007.tar"), "0" * 32):
        assert word in message
    assert not (tmp_path / "VOCdevkit").exists()


def test_a_connection_that_breaks_off(server: Server, tmp_path: Path) -> None:
    server.cut = 1000
    assert str(tmp_path / "2007.tar") in error_of(tmp_path)
    server.cut = 0
    train, _ = download_voc("voc2007", tmp_path)  # the second attempt replaces the stump
    assert len(VOCDataset(*train[0])) == 1


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    del server.files["2007-test.tar"]
    message = error_of(tmp_path)
    assert "404" in message
    assert "2007-test.tar" in message


def test_no_network(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    message = error_of(tmp_path)
    assert "refused" in message
    assert "mirror" in message


def test_an_archive_that_is_no_archive(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["2007.tar"] = b"hello"
    monkeypatch.setitem(DATASET_YEAR_DICT["2007"], "md5", hashlib.md5(b"hello", usedforsecurity=False).hexdigest())
    assert "cannot be fetched and unpacked" in error_of(tmp_path)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be fetched" in error_of(tmp_path / "file" / "folder")


def test_unknown_name(tmp_path: Path) -> None:
    assert "voc2007, voc0712" in error_of(tmp_path, "coco")
