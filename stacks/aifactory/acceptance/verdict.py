"""Contract 6: what was asked of a region, what was measured, and whether that is proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Word = Literal["pass", "fail", "not_proved"]


@dataclass(frozen=True)
class Verdict:
    """One check on one thing. `measured` is what was seen, `floor` what had to be seen at least.

    `fail`: measured, and not good enough. `not_proved`: not measured, for the reason in `detail`; never a pass.
    """

    check: str
    scope: str
    verdict: Word
    measured: str
    floor: str
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def reason(self) -> str:
        """One line for a verdict that is no pass: `failed: host.units: chat-0: …`, `not proved: …`."""
        word = "failed" if self.verdict == "fail" else "not proved"
        seen = f"{self.measured} (needed: {self.floor})" if self.verdict == "fail" else "not measured"
        return f"{word}: {self.check}: {self.scope}: {seen}{': ' if self.detail else ''}{self.detail}"


def judged(check: str, scope: str, good: bool, measured: str, floor: str, *, detail: str = "") -> Verdict:
    """A verdict on something that was measured."""
    return Verdict(check, scope, "pass" if good else "fail", measured, floor, detail)


def unmeasured(check: str, scope: str, floor: str, detail: str) -> Verdict:
    return Verdict(check, scope, "not_proved", "", floor, detail)


def reasons(verdicts: Iterable[Verdict]) -> list[str]:
    """A line for every verdict that is no pass; empty = everything is proved."""
    return [verdict.reason() for verdict in verdicts if verdict.verdict != "pass"]
