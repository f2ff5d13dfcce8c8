"""The command line in this process, and images for it."""

import os
import subprocess
import sys
import tarfile

import pytest


@pytest.fixture
def run_in_process(monkeypatch, capsys, tmp_path):
    """The same entry point without a new process: fast enough for many mistakes."""
    import benchmark.__main__ as cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, stop.value.code or 0, out, err)

    return run


@pytest.fixture(scope="module")
def image_tar(tmp_path_factory):
    """Ten classes of 32 x 32 noise in CIFAR-10's layout, as PNG: 70 training and 20 test images."""
    import io

    import numpy as np
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "noise.tar"
    generator = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for split, count in (("train", 7), ("test", 2)):
            for label in range(10):
                for i in range(count):
                    buffer = io.BytesIO()
                    Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
                    info = tarfile.TarInfo(f"{split}/class{label}/{i:04d}.png")
                    info.size = buffer.tell()
                    buffer.seek(0)
                    archive.addfile(info, buffer)
    return path
