"""The one rule by which values become the text of vocabularies."""

import decimal
import enum
import fractions
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cmclrec_tf.data import text_forms
from cmclrec_tf.errors import InputError


class Tea(str, enum.Enum):
    GREEN = "green tea"


FORMS = [
    ("tea", b"tea"),
    (" tea ", b" tea "),
    ("nan", b"nan"),
    ("Grüner Tee", "Grüner Tee".encode()),
    (np.str_("tea"), b"tea"),
    (Tea.GREEN, b"green tea"),
    (b"\xff\x00", b"\xff\x00"),
    ("\udcff", b"\xff"),
    (np.bytes_(b"tea"), b"tea"),
    (0, b"0"),
    (-7, b"-7"),
    (2**70, b"1180591620717411303424"),
    (np.int64(-7), b"-7"),
    (np.uint8(200), b"200"),
    (1.0, b"1"),
    (-0.0, b"0"),
    (np.float32(3.0), b"3"),
    (12345678901.0, b"12345678901"),
    (1e20, b"100000000000000000000"),
    (0.1, b"0.1"),
    (np.float32(0.1), b"0.1"),
    (np.float16(0.1), b"0.1"),
    (1700000000123.5, b"1700000000123.5"),
    (1e-7, b"0.0000001"),
    (float("inf"), b"inf"),
    (-np.float32("inf"), b"-inf"),
    (True, b"true"),
    (np.False_, b"false"),
    (decimal.Decimal("1.50"), b"1.5"),
    (decimal.Decimal("100"), b"100"),
    (decimal.Decimal("1E+3"), b"1000"),
    (decimal.Decimal("0.00"), b"0"),
    (decimal.Decimal("2.00"), b"2"),
    (decimal.Decimal("-Infinity"), b"-inf"),
]


@pytest.mark.parametrize(("value", "text"), FORMS, ids=lambda value: repr(value))
def test_the_text_of_a_value(value, text):
    assert text_forms.to_bytes(value, "here") == text
    assert not text_forms.is_missing(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"",
        float("nan"),
        np.float32("nan"),
        decimal.Decimal("nan"),
        pd.NA,
        pd.NaT,
        np.datetime64("NaT"),
        np.timedelta64("NaT"),
    ],
    ids=repr,
)
def test_a_missing_value_has_no_text(value):
    assert text_forms.is_missing(value)
    assert text_forms.to_bytes(value, "here") == text_forms.MISSING


@pytest.mark.parametrize(
    "value",
    [
        ["secret"],
        {"secret": 1},
        {"secret"},
        object(),
        np.array(["secret"]),
        pd.Timestamp("2025-08-24"),
        np.datetime64("2025-08-24"),
        fractions.Fraction(1, 3),
        1j,
        10**400,
        decimal.Decimal("1e999999999"),
        decimal.Decimal("1e-999999"),
        bytearray(b"secret"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_other_value_is_an_error_without_the_value(value):
    with pytest.raises(InputError, match=r"history of user 3 \(a \w+\): it must be text") as error:
        text_forms.to_bytes(value, "history of user 3")
    assert "secret" not in str(error.value)


def test_a_lone_surrogate_is_an_error_without_the_text():
    with pytest.raises(InputError, match="lone surrogate") as error:
        text_forms.to_bytes("secret\ud800", "history of user 3")
    assert "secret" not in str(error.value)


def test_line_ends():
    assert text_forms.is_one_line(b"a b\tc\x00\x0b\xc2\x85\xe2\x80\xa8")
    assert not text_forms.is_one_line(b"a\rb") and not text_forms.is_one_line(b"a\n")


def test_the_module_needs_neither_tensorflow_nor_pandas():
    code = (
        "import sys; from cmclrec_tf.data import text_forms; text_forms.to_bytes(1.0, 'here'); "
        "heavy = {'tensorflow', 'keras', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
