"""Digits, and what every datamodule shares: the validation split."""

import subprocess
import sys

import pytest
import torch

from datamodules import DataError, DigitsDataModule, ImageNetDataModule


def loaded(**options):
    datamodule = DigitsDataModule(**options)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_digits_are_all_there_and_stratified():
    digits = loaded(batch_size=64)
    assert (digits.num_train, digits.num_test, digits.num_classes, digits.image_shape) == (1297, 500, 10, (1, 8, 8))
    assert digits.identity["name"] == "digits"
    assert digits.identity["checksum"].startswith("sha256:")
    counts = torch.bincount(digits.arrays.test_labels)
    assert counts.min() >= 45
    assert digits.arrays.train_images.max() == 255
    assert sum(len(y) for _, y in digits.train_dataloader()) == 1297


def test_without_a_split_the_curve_is_read_from_the_test_images():
    digits = loaded()
    for (x, y), (x2, y2) in zip(digits.val_dataloader(), digits.test_dataloader(), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_the_validation_split_is_disjoint_complete_and_the_same_for_every_seed():
    one, other = loaded(validation=200, seed=0), loaded(validation=200, seed=1)
    assert torch.equal(one.held_out, other.held_out)
    assert (len(one.held_out), one.num_train) == (200, 1097)
    both = torch.cat([one.held_out, one.kept]).sort().values
    assert torch.equal(both, torch.arange(1297))
    assert sum(len(y) for _, y in one.val_dataloader()) == 200
    assert sum(len(y) for _, y in one.train_dataloader()) == 1097
    assert sum(len(y) for _, y in one.test_dataloader()) == 500


@pytest.mark.parametrize("validation", [1297, 5000])
def test_splits_that_do_not_fit(validation):
    with pytest.raises(DataError, match=f"cannot hold out {validation} of 1297 training images"):
        loaded(validation=validation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number from 1 to"),
        ({"batch_size": 64.0}, r"batch_size is 64\.0"),
        ({"eval_batch_size": "64"}, "eval_batch_size is '64'"),
        ({"validation": -1}, "validation is -1; it must be a whole number from 0 to"),
        ({"validation": True}, "validation is True"),
        ({"seed": 2**70}, r"seed is \d+; it must be a whole number from 0 to 2\^32 - 1"),
    ],
    ids=str,
)
def test_numbers_out_of_range_are_told_at_once(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        DigitsDataModule(**options)
    with pytest.raises(DataError, match=message):
        ImageNetDataModule(tmp_path, **options)


def test_digits_are_not_flipped():
    with pytest.raises(DataError, match="use augment=False"):
        DigitsDataModule(augment=True)


def test_importing_the_package_imports_no_torch():
    code = "import sys, datamodules, lightning_modules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
