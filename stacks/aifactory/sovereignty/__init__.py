"""Where a region is, whose law it is under, who holds its keys, what leaves it: facts, and rules over them.

A rule reads facts, never resources. The same rules judge what is planned and what is there; `unknown` fails.
"""

from aifactory.sovereignty.facts import Fact, Facts, Level, Resource
from aifactory.sovereignty.judge import Finding, Report, check, judge, problems

__all__ = ["Fact", "Facts", "Finding", "Level", "Report", "Resource", "check", "judge", "problems"]
