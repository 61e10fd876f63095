"""Secrets written in clear: found in the tree and in the raw text, covered before anything is shown.

Three signs: a text that has the form of a key (private key, cloud or API token, password in a URL), a value under
a key whose name says secret, and the keys of the format that take `secret:<name>` and hold something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from aifactory.errors import Problem
from aifactory.region.document import Document, Mapping, Node, Scalar
from aifactory.region.positions import Path, dotted
from aifactory.region.spec import Section
from aifactory.region.text import Text

RULE = "SPEC-010"

FORMS = re.compile(
    r"-----BEGIN[ A-Z0-9]*PRIVATE KEY"
    r"|AGE-SECRET-KEY-1"
    r"|(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}"  # AWS access key
    r"|sk-(?!ssh-|ecdsa-)[A-Za-z0-9_-]{16,}"  # OpenAI-style key; sk-ssh-… is a type of SSH key
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|hf_[A-Za-z0-9]{20,}|nvapi-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|AIza[\w-]{30,}"
    r"|pul-[0-9a-f]{40}|hvs\.[\w-]{20,}"
    r"|(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\."  # JSON web token
    r")"
    r"|://[^/\s:@'\"]{0,100}:[^/\s@'\"]{1,200}@"  # user:password@ in a URL
    r"|[?&](?:password|passwd|secret|token|sig|access_key|secret_key)=[^&\s'\"]+",
)
PEM = re.compile(r"-----BEGIN[ A-Z0-9]*PRIVATE KEY.*?(?:-----END[ A-Z0-9]*-----|\Z)", re.DOTALL)
NAMED = re.compile(r"(?<![\w.-])([A-Za-z][\w.-]{0,99})['\"]?[ \t]*[:=](?=\s)[ \t]*+(?!secret:[a-z])")
REST = re.compile(r"[^\s'\",}\]]*")
IN_BRACES = re.compile(r"\"(?:[^\"\\\r\n]|\\.)*\"?|'[^'\r\n]*'?|[^,}\]\r\n]*")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
REFERENCE = re.compile(r"secret:[a-z][a-z0-9_]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(r"['\"]?[0-9a-f]{64}(?![0-9a-zA-Z])")

SECRET_WORDS = {"password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "tokens",
                "credential", "credentials", "apikey", "apikeys"}  # fmt: skip
SECRET_PAIRS = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("client", "key")}
LONGEST_LOOK_BACK = 2000
FREE_MAPS = {"labels", "endpoints"}
ALWAYS_COVERED = {"key", "certificate", "key_sha256"}
"""Keys of the format that people fill with the secret itself; harmless to cover."""
REFERENCES = {("front_door", "tls", "certificate"), ("front_door", "tls", "key")}


@dataclass(frozen=True)
class Found:
    """A scalar that must not be shown. `blamed`: it gets a problem of its own; else it is only covered."""

    scalar: Scalar
    path: Path
    blamed: bool
    fix: str


def cover(document: Document) -> list[Found]:
    """Covers every secret of the file in its text and returns those of the tree."""
    document.text.hide(_spans(document.text))
    if document.root is None:
        return []
    found = list(_walk(document.root, (), False))
    document.text.hide(((f.scalar.start, f.scalar.end) for f in found), (f.scalar.text for f in found))
    return found


def problems(found: list[Found], text: Text, most: int) -> list[Problem]:
    """One problem a secret, not many more than `most`; neither the value nor its line's secrets are in it."""
    return [
        Problem(
            RULE, "This looks like a secret, written in clear. It is not shown here.",
            text.place(f.scalar.start, f.scalar.end), dotted(f.path), fix=f.fix,
        )
        for f in [f for f in found if f.blamed][: most + 1]
    ]  # fmt: skip


def scrub(problem: Problem, text: Text) -> Problem:
    """The problem without any covered text, its source line as it may be shown."""

    def clean(said: str | None) -> str | None:
        for secret in hidden if said else ():
            said = said.replace(secret, "[hidden]") if said else said
        return said

    hidden = text.hidden()
    place = problem.place
    if place and place.line is not None and place.source is not None:
        place = replace(place, source=text.line(place.line))
    return replace(
        problem,
        message=clean(problem.message) or "",
        place=place,
        path=clean(problem.path),
        nearest=tuple(clean(n) or "" for n in problem.nearest),
        allowed=clean(problem.allowed),
        fix=clean(problem.fix),
    )


def _spans(text: Text) -> Iterator[tuple[int, int]]:
    """What looks like a secret in the raw text, comments and broken files included."""
    for match in PEM.finditer(text.content):
        yield match.span()
    covered = 0
    for match in FORMS.finditer(text.content):
        if match.start() >= covered:
            rest = REST.match(text.content, match.end())
            covered = rest.end() if rest else match.end()
            yield match.start(), covered
    known = _known_keys()
    covered = 0
    for match in NAMED.finditer(text.content):
        name = match.group(1)
        if match.start() < covered or (name == "key_sha256" and DIGEST.match(text.content, match.end())):
            continue
        if name in ALWAYS_COVERED or (name not in known and says_secret(name)):
            covered = _value_end(text.content, match)
            yield match.end(), covered


def _value_end(content: str, match: re.Match[str]) -> int:
    """Where the value after the colon ends: in braces at a comma, else after all lines indented deeper."""
    line_start = content.rfind("\n", max(0, match.start() - LONGEST_LOOK_BACK), match.start()) + 1
    if any(content.find(bracket, line_start, match.start()) >= 0 for bracket in "{["):
        end = IN_BRACES.match(content, match.end())
    else:
        before = content[line_start : match.start()]
        indent = len(before) - len(before.lstrip(" -"))
        deeper = rf"[^\n]*(?:\n(?:[ \t]*\r?(?=\n)|(?:[ ]{{{indent + 1},}}|[ ]*\t)[^\n]*))*"
        end = re.compile(deeper).match(content, match.end())
    return end.end() if end else match.end()


def _walk(node: Node, path: Path, secret: bool) -> Iterator[Found]:
    if isinstance(node, Scalar):
        yield from _scalar(node, path, secret)
    elif isinstance(node, Mapping):
        pairs: list[tuple[Node, Node]] = [*node.items.values(), *node.refused]
        for key, value in pairs:
            name = key.text if isinstance(key, Scalar) else "?"
            yield from _walk(key, path, False) if not isinstance(key, Scalar) else _key(key, path)
            yield from _walk(value, (*path, name), secret or _names_secret(name, path))
    else:
        for index, item in enumerate(node.items):
            yield from _walk(item, (*path, index), secret)


def _key(key: Scalar, path: Path) -> Iterator[Found]:
    if FORMS.search(key.text):
        yield Found(key, path, True, "remove it, and make a new one: this one has been written down")


def _scalar(node: Scalar, path: Path, secret: bool) -> Iterator[Found]:
    if not node.text or REFERENCE.fullmatch(node.text) or (node.plain and node.value in {None, True, False}):
        return
    if path in REFERENCES:
        name = f"tls_{path[-1]}"
        yield Found(node, path, True, f"pulumi config set --secret {name} -s REGION < FILE, and here: secret:{name}")
    elif secret or FORMS.search(node.text):
        yield Found(node, path, True, _fix(path))
    elif path[-1:] == ("key_sha256",) and not SHA256.fullmatch(node.text):
        yield Found(node, path, False, "")


def _fix(path: Path) -> str:
    if path[-1:] == ("private_key",):
        return "put the key into a file of mode 0600, write its path here, and make a new key if others saw this one"
    if path[:1] == ("state",):
        return "leave the login out of the URL: the backend takes it from environment variables of its own"
    return (
        "remove it, and make a new one: this one has been written down. "
        "A secret stands encrypted in Pulumi.REGION.yaml: pulumi config set --secret NAME -s REGION"
    )


def _names_secret(name: str, path: Path) -> bool:
    """A key of the format means what the format says; any other one means what its name says."""
    if name in _known_keys() and path[-1:] not in {(free,) for free in FREE_MAPS}:
        return False
    return says_secret(name)


def says_secret(name: str) -> bool:
    words = [w.lower() for w in WORD.findall(name[:100])]
    return bool(SECRET_WORDS.intersection(words)) or any(p in SECRET_PAIRS for p in pairwise(words))


@cache
def _known_keys() -> frozenset[str]:
    return frozenset(name for section in Section.__subclasses__() for name in section.model_fields)
