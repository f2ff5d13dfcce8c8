"""ImageNet's official archives: checked, extracted once, and started again if interrupted."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import imagenet

from datamodules import DataError
from tests.datamodules.photographs import encode, loaded, pixels


def write_archives(folder: Path, monkeypatch) -> Path:
    """Three classes of two images in the release's own format, and their MD5s in place of the real ones."""
    folder.mkdir()
    wnids = [f"n0000000{i}" for i in range(3)]
    kit = folder / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    fields = [
        "ILSVRC2012_ID",
        "WNID",
        "words",
        "gloss",
        "num_children",
        "children",
        "wordnet_height",
        "num_train_images",
    ]
    synsets = np.zeros((len(wnids) + 1, 1), dtype=[(name, "O") for name in fields])
    for i, wnid in enumerate([*wnids, "n99999999"]):
        synsets[i, 0] = (i + 1, wnid, f"thing {i}, name", "", 0 if wnid in wnids else 3, [], 0, 0)
    scipy.io.savemat(kit / "meta.mat", {"synsets": synsets})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n2\n1\n2\n3\n")
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(kit.parent, kit.parent.name)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid in wnids:
            with tarfile.open(folder / f"{wnid}.tar", "w") as own:
                for i in range(2):
                    (folder / f"{wnid}_{i}.JPEG").write_bytes(encode(pixels(i)))
                    own.add(folder / f"{wnid}_{i}.JPEG", f"{wnid}_{i}.JPEG")
            archive.add(folder / f"{wnid}.tar", f"{wnid}.tar")
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for i in range(6):
            name = f"ILSVRC2012_val_{i + 1:08}.JPEG"
            (folder / name).write_bytes(encode(pixels(10 + i)))
            archive.add(folder / name, name)
    for path in (*folder.glob("*.JPEG"), *folder.glob("n*.tar")):
        path.unlink()
    for split, (name, _) in list(imagenet.ARCHIVE_META.items()):
        monkeypatch.setitem(imagenet.ARCHIVE_META, split, (name, imagenet_md5(folder / name)))
    return folder


def imagenet_md5(path: Path) -> str:
    import hashlib

    return hashlib.md5(path.read_bytes()).hexdigest()


def test_official_archives_are_extracted_once(tmp_path, monkeypatch):
    folder = write_archives(tmp_path / "ILSVRC2012", monkeypatch)
    datamodule = loaded(folder)
    assert (datamodule.num_train, datamodule.num_test) == (6, 6)
    assert datamodule.class_names == ("n00000000", "n00000001", "n00000002")
    places = {p.name: p.parent.name for p in (folder / "val").rglob("*.JPEG")}
    assert [places[f"ILSVRC2012_val_{i + 1:08}.JPEG"][-1] for i in range(6)] == list("201012")
    monkeypatch.setattr(imagenet, "parse_train_archive", lambda *_, **__: pytest.fail("extracted again"))
    assert loaded(folder).num_train == 6


def test_an_interrupted_extraction_starts_again(tmp_path, monkeypatch):
    folder = write_archives(tmp_path / "ILSVRC2012", monkeypatch)
    (folder / ".train.partial" / "n00000000").mkdir(parents=True)
    (folder / ".train.partial" / "n00000000" / "half.JPEG").write_bytes(b"half")
    assert loaded(folder).num_train == 6


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "ILSVRC2012_img_val.tar").unlink(), r"lacks ILSVRC2012_img_val\.tar, or the folder val/"),
        (lambda p: (p / "ILSVRC2012_devkit_t12.tar.gz").unlink(), r"lacks ILSVRC2012_devkit_t12\.tar\.gz"),
        (lambda p: os.truncate(p / "ILSVRC2012_img_train.tar", 9000), r"img_train\.tar is damaged: its MD5"),
    ],
    ids=["no val", "no devkit", "half a train"],
)
def test_archives_that_are_missing_or_damaged(tmp_path, monkeypatch, spoil, message):
    folder = write_archives(tmp_path / "ILSVRC2012", monkeypatch)
    spoil(folder)
    with pytest.raises(DataError, match=message):
        loaded(folder)
