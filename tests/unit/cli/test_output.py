"""Plain printing and asking. Real: everything; there is no terminal under pytest."""

import pytest
from aifactory.cli import output
from aifactory.errors import Exit, ProblemError


def test_table_aligns_text_left_and_numbers_right() -> None:
    assert (
        output.table(("name", "gpus"), [("a", 8), ("long-name", 16)])
        == "name       gpus\na             8\nlong-name    16"
    )


def test_confirm_without_terminal_and_without_yes_refuses() -> None:
    with pytest.raises(ProblemError) as caught:
        output.confirm("Remove?", yes=False)
    assert caught.value.code == Exit.BAD_INPUT
    assert "--yes" in str(caught.value)


def test_confirm_with_yes_goes_on() -> None:
    output.confirm("Remove?", yes=True)
