"""CIFAR through torchvision, on small archives that the test writes in the official formats."""

import hashlib
import io
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from datamodules import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    DataError,
    ImageFolderDataModule,
    ImageNetDataModule,
)
from tests.datamodules.folders import processes_that_share_imports

PER_FILE = 20


def md5(data):
    return hashlib.md5(data).hexdigest()


def write_archive(folder, dataset, monkeypatch):
    """A ``cifar-*-python.tar.gz`` of a few images; torchvision is told its checksums. Returns path and pixels."""
    hundred = dataset is CIFAR100
    names = {"train": ["train"], "test": ["test"]} if hundred else {
        "train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]
    }  # fmt: skip
    generator = np.random.default_rng(0)
    files, pixels = {}, {}
    for split, parts in names.items():
        for part in parts:
            data = generator.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
            labels = [i % (100 if hundred else 10) for i in range(PER_FILE)]
            key = "fine_labels" if hundred else "labels"
            files[part] = pickle.dumps({"data": data, key: labels}, protocol=2)
            pixels.setdefault(split, []).append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    meta = "meta" if hundred else "batches.meta"
    classes = [f"class{i}" for i in range(100 if hundred else 10)]
    files[meta] = pickle.dumps({"fine_label_names" if hundred else "label_names": classes}, protocol=2)
    path = folder / dataset.filename
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"{dataset.base_folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(dataset, "tgz_md5", md5(path.read_bytes()))
    for split in ("train", "test"):
        monkeypatch.setattr(dataset, f"{split}_list", [[name, md5(files[name])] for name in names[split]])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "filename": meta, "md5": md5(files[meta])})
    return path, {split: np.concatenate(parts) for split, parts in pixels.items()}


@pytest.mark.parametrize(
    ("module", "dataset", "classes", "train"),
    [(CIFAR10DataModule, CIFAR10, 10, 5 * PER_FILE), (CIFAR100DataModule, CIFAR100, 100, PER_FILE)],
)
def test_official_format(tmp_path, monkeypatch, module, dataset, classes, train):
    _, pixels = write_archive(tmp_path, dataset, monkeypatch)
    datamodule = module(tmp_path, download=False, batch_size=8)
    datamodule.prepare_data()
    datamodule.setup()
    assert datamodule.num_classes == classes
    assert datamodule.image_shape == (3, 32, 32)
    assert (datamodule.num_train, datamodule.num_test) == (train, PER_FILE)
    assert np.array_equal(datamodule.arrays.train_images.numpy(), pixels["train"])
    assert np.array_equal(datamodule.arrays.test_images.numpy(), pixels["test"])
    assert datamodule.arrays.train_labels.dtype == torch.int64
    assert datamodule.identity == {
        "name": module.title,
        "source": "official",
        "checksum": f"md5:{dataset.tgz_md5}",
    }
    assert len(datamodule.train_dataloader()) == -(-train // 8)


def test_identity_is_the_published_checksum():
    assert CIFAR10DataModule().identity["checksum"] == "md5:c58f30108f718f92721af3b95e74349a"
    assert CIFAR100DataModule().identity["checksum"] == "md5:eb9058c3a382ffc7106e4002c42a8d85"


def test_extracted_files_need_no_archive(tmp_path, monkeypatch):
    path, _ = write_archive(tmp_path, CIFAR100, monkeypatch)
    CIFAR100DataModule(tmp_path).prepare_data()
    path.unlink()
    datamodule = CIFAR100DataModule(tmp_path, download=False)
    datamodule.prepare_data()
    datamodule.setup()
    assert datamodule.num_test == PER_FILE


def test_one_flipped_byte_is_found(tmp_path, monkeypatch):
    path, _ = write_archive(tmp_path, CIFAR100, monkeypatch)
    CIFAR100DataModule(tmp_path).prepare_data()
    path.unlink()
    file = tmp_path / "cifar-100-python" / "train"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="is not there and download is off"):
        CIFAR100DataModule(tmp_path, download=False).prepare_data()


def test_truncated_archive_is_named_and_kept(tmp_path, monkeypatch):
    path, _ = write_archive(tmp_path, CIFAR10, monkeypatch)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is cut short or altered \(MD5 \w+, not \w+\)"):
        CIFAR10DataModule(tmp_path).prepare_data()
    assert path.stat().st_size == 500


def test_impossible_download_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/nothing-listens-here")
    with pytest.raises(DataError) as error:
        CIFAR10DataModule(tmp_path / "data").prepare_data()
    message = str(error.value)
    assert "\n" not in message
    for part in ("cifar-10-python.tar.gz", CIFAR10.tgz_md5, str(tmp_path / "data"), "make quickstart"):
        assert part in message


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises(DataError, match="data cannot be used"):
        CIFAR10DataModule(tmp_path / "data").prepare_data()


class CountingHandler(SimpleHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self):
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder, the address on this machine that serves it, and the requests that came."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = partial(CountingHandler, directory=folder)
    CountingHandler.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}", CountingHandler.requests
        http.shutdown()


def _prepare(folder, patches):
    for name, value in patches.items():
        setattr(CIFAR100, name, value)
    CIFAR100DataModule(folder).prepare_data()


def test_processes_share_one_download(tmp_path, monkeypatch, server):
    folder, address, requests = server
    path, _ = write_archive(folder, CIFAR100, monkeypatch)
    patches = {name: getattr(CIFAR100, name) for name in ("tgz_md5", "train_list", "test_list", "meta")}
    patches["url"] = f"{address}/{path.name}"
    context = processes_that_share_imports()
    processes = [context.Process(target=_prepare, args=(tmp_path / "data", patches)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(requests) == 2  # torchvision first asks where the address leads
    assert not list((tmp_path / "data").glob(".download-*"))


def test_a_download_leaves_that_of_another_data_set_alone(tmp_path, monkeypatch, server):
    folder, address, _ = server
    path, _ = write_archive(folder, CIFAR100, monkeypatch)
    monkeypatch.setattr(CIFAR100, "url", f"{address}/{path.name}")
    folders = [tmp_path / f".download-{dataset.base_folder}-x" for dataset in (CIFAR10, CIFAR100)]
    for underway in folders:
        underway.mkdir()
    CIFAR100DataModule(tmp_path).prepare_data()
    assert [underway.exists() for underway in folders] == [True, False]


def test_a_download_with_another_checksum_is_not_kept(tmp_path, monkeypatch, server):
    folder, address, _ = server
    path, _ = write_archive(folder, CIFAR100, monkeypatch)
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(CIFAR100, "url", f"{address}/{path.name}")
    with pytest.raises(DataError, match="cannot download CIFAR-100"):
        CIFAR100DataModule(tmp_path / "data").prepare_data()
    assert not list((tmp_path / "data").glob("*.tar.gz"))


@pytest.mark.parametrize("kind", [CIFAR10DataModule, ImageFolderDataModule, ImageNetDataModule])
def test_a_folder_in_the_home_directory(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kind("~/images").data_dir == tmp_path / "images"
    assert kind("~nobody-of-this-name").data_dir == Path("~nobody-of-this-name")
