"""Labels in the forms that people keep them in."""

import re

import numpy as np
import pytest

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import load_raw
from ddpp_jax.errors import InputError

LABELS = np.arange(12) % 3
TESTS = np.array([2, 0, 1])
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
NAMES = np.array(["cow", "ant", "bee"])


def load(folder, train, test=None, names=None):
    arrays = {"x_train": IMAGES, "y_train": train}
    if test is not None:
        arrays |= {"x_test": IMAGES[:3], "y_test": test}
    if names is not None:
        arrays["class_names"] = names
    np.savez(folder / "set.npz", **arrays)
    return load_raw(DataConfig(dataset=str(folder / "set.npz")))


FORMS = {
    "as they are": (lambda y: y, None),
    "bytes": (lambda y: y.astype(np.uint8), None),
    "from 1": (lambda y: y + 1, "labels are 1 to 3; taken as 0 to 2"),
    "in a column": (lambda y: y[:, None], r"y_train is a column of shape \(12, 1\)"),
    "in a column from 1": (lambda y: y[:, None] + 1, "taken as 0 to 2"),
    "floats": (lambda y: y.astype(float), "y_train are float64, all of them whole"),
    "one-hot": (lambda y: np.eye(3, dtype=int)[y], "y_train and y_test: rows of 3 with a single"),
    "one-hot floats": (lambda y: np.eye(3, dtype=np.float32)[y], "rows of 3"),
    "one-hot bools": (lambda y: np.eye(3, dtype=bool)[y], "rows of 3"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("named", [False, True])
def test_every_form_is_read_and_said(tmp_path, form, named):
    change, words = FORMS[form]
    raw = load(tmp_path, change(LABELS), change(TESTS), NAMES if named else None)
    np.testing.assert_array_equal(raw.y_train, LABELS)
    np.testing.assert_array_equal(raw.y_test, TESTS)
    assert raw.class_names == (tuple(NAMES) if named else ("0", "1", "2"))
    assert len(raw.notes) == 0 if words is None else re.search(words, "; ".join(raw.notes))
    assert all(line.count("\n") == 0 and str(tmp_path) in line for line in raw.notes)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_strings_are_names_of_classes(tmp_path, kind):
    raw = load(tmp_path, NAMES[LABELS].astype(kind), NAMES[TESTS].astype(kind))
    assert raw.class_names == ("ant", "bee", "cow")
    np.testing.assert_array_equal(raw.y_train, np.array([2, 0, 1])[LABELS])
    np.testing.assert_array_equal(raw.y_test, np.array([2, 0, 1])[TESTS])
    assert "y_train holds names; they are the classes, in alphabetical order" in raw.notes[0]
    raw = load(tmp_path, NAMES[LABELS].astype(kind), NAMES[TESTS].astype(kind), NAMES.astype(kind))
    assert raw.class_names == tuple(NAMES)
    np.testing.assert_array_equal(raw.y_train, LABELS)


def test_false_and_true_are_two_classes(tmp_path):
    raw = load(tmp_path, LABELS > 0, TESTS > 0)
    np.testing.assert_array_equal(raw.y_train, LABELS > 0)
    assert "False and True; taken as classes 0 and 1" in raw.notes[0]


ONE_HOT = np.eye(3)[LABELS]
TWICE, NONE, SOFT = ONE_HOT.copy(), ONE_HOT.copy(), 0.5 * ONE_HOT + 0.25
TWICE[4] = [1, 1, 0]
NONE[5] = 0

BAD = {
    "two ones": (TWICE, None, None, r"row 4, is \(1, 1, 0\); wanted a label for each image, or"),
    "no one": (NONE, None, None, r"row 5, is \(0, 0, 0\)"),
    "soft": (SOFT, None, None, r"row 0, is \(0.75, 0.25, 0.25\).*labels.argmax\(1\)"),
    "gaps": (LABELS * 2, None, None, "from 0 to 4; wanted .* 0 to 2; numpy.unique"),
    "from 2": (LABELS + 2, None, None, "from 2 to 4; wanted every whole number from 0 to 2"),
    "below 0": (LABELS - 1, None, None, "hold -1; wanted 0 or more"),
    "halves": (LABELS / 2, None, None, "hold 0.5; wanted whole numbers"),
    "NaN": (LABELS * np.nan, None, None, "hold nan; wanted whole numbers"),
    "beyond 32 bits": (LABELS * 2.0**40, None, None, "hold 2199023255552"),
    "complex": (LABELS * 1j, None, None, "are complex128; wanted whole numbers or strings"),
    "dates": (LABELS.astype("M8[s]"), None, None, "datetime64.* wanted whole numbers or strings"),
    "too few": (LABELS[:5], None, None, r"of shape \(5,\) for 12 images"),
    "three axes": (LABELS[:, None, None], None, None, r"of shape \(12, 1, 1\) for 12 images"),
    "none": (np.zeros((0,), int), None, None, r"of shape \(0,\) for 12 images"),
    "two forms": (ONE_HOT, TESTS, None, r"shape \(12, 3\) and y_test of shape \(3,\); wanted the"),
    "two bases": (LABELS + 1, TESTS, None, "y_train holds 1 to 3 and y_test 0 to 2"),
    "words and numbers": (NAMES[LABELS], TESTS, None, "y_train is <U3 and y_test is int64"),
    "a strange word": (NAMES[LABELS], np.array(["ant", "antx", "bee"]), None, "holds 'antx'"),
    "not among the names": (NAMES[LABELS], None, NAMES[:2], "holds 'bee', which class_names does"),
    "rows and names": (ONE_HOT, None, NAMES[:2], "rows of 3 and class_names 2 names"),
    "columns of words": (np.stack([NAMES[LABELS]] * 2, 1), None, None, "are strings of shape"),
    "too many names": (LABELS, None, np.array([*NAMES, "x"]), "class x has 0 image"),
    "not UTF-8": (np.array([b"\xff", b"a"] * 6), None, None, "a name is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_nobody_can_tell_is_refused_with_what_to_do(tmp_path, case):
    train, test, names, words = BAD[case]
    with pytest.raises(InputError, match=words) as caught:
        load(tmp_path, train, test, names)
    assert "\n" not in str(caught.value)
