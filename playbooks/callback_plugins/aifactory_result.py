"""Writes what happened on each host as JSON lines: the toolkit's one record of an Ansible run.

Enabled by `callbacks_enabled = aifactory_result`; silent unless AIFACTORY_RESULT_FD (an inherited file
descriptor) or AIFACTORY_RESULT_FILE names where to write. Works the same under ansible-runner and under
plain ansible-playbook. Lines (`v` is the version of this format):

  {"v": 1, "kind": "task", "task": "runtime : Install packages", "layer": "runtime"}
  {"kind": "host", "host": "a", "task": …, "status": "ok|changed|failed|unreachable|skipped|ignored"}
     failed, unreachable: "message"; changed: "diff" (capped); skipped: "why" (condition|check|other)
  {"kind": "note", "host": "a", "layer": "gpu", "message": …}    a task tagged `note` that passed
  {"kind": "end", "host": "a"}                                   the host is through (task tagged `aifactory_end`)
  {"kind": "stats", "hosts": {"a": {"ok": 1, …}}}                the run is over
"""

from __future__ import annotations

import ctypes
import json
import os
import signal

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: aifactory_result
type: notification
short_description: JSON lines of what happened on each host
description: See the module docstring.
"""

END_TAG = "aifactory_end"
MESSAGE_CHARS = 600
DIFF_CHARS = 2000


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "aifactory_result"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fd = _target()
        self.disabled = self._fd is None
        _end_with_parent()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._write(kind="task", task=_name(task), layer=_layer(task))

    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result):
        task, data = result.task, result.result
        changed = bool(data.get("changed"))
        line = {"status": "changed" if changed else "ok"}
        if changed and not _is_secret(data) and (diff := _diff(data)):
            line["diff"] = diff
        self._host(result, **line)
        if "note" in task.tags and data.get("msg") and not _is_secret(data):
            self._write(kind="note", host=result.host.get_name(), layer=_layer(task), message=_short(data["msg"]))
        self._end(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if ignore_errors:
            self._host(result, status="ignored")
        else:
            self._host(result, status="failed", message=_reason(result.result))

    def v2_runner_on_unreachable(self, result):
        self._host(result, status="unreachable", message=_reason(result.result))

    def v2_runner_on_skipped(self, result):
        data = result.result
        why = "condition" if "false_condition" in data else "check" if result.task.check_mode else "other"
        self._host(result, status="skipped", why=why)
        self._end(result)

    def v2_playbook_on_stats(self, stats):
        self._write(kind="stats", hosts={name: stats.summarize(name) for name in sorted(stats.processed)})

    def _end(self, result):
        if END_TAG in result.task.tags:
            self._write(kind="end", host=result.host.get_name())

    def _host(self, result, **more):
        self._write(
            kind="host", host=result.host.get_name(), task=_name(result.task), layer=_layer(result.task), **more
        )

    def _write(self, **line):
        if self._fd is not None:
            data = (json.dumps({"v": 1, **line}, default=str) + "\n").encode()
            while data:
                data = data[os.write(self._fd, data) :]


def _target():
    if fd := os.environ.get("AIFACTORY_RESULT_FD"):
        return int(fd)
    if path := os.environ.get("AIFACTORY_RESULT_FILE"):
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return None


def _end_with_parent():
    """Under the toolkit a run never outlives the process that asked for it (ansible-runner ignores SIGHUP)."""
    parent = os.environ.get("AIFACTORY_PARENT")
    if parent is None or os.getppid() != int(parent):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _name(task):
    return task.get_name().strip()


def _layer(task):
    """The role a task belongs to, else the name of its play."""
    role = getattr(task, "_role", None)
    return role.get_name() if role else ""


def _is_secret(data):
    return bool(data.get("_ansible_no_log") or data.get("censored"))


def _reason(data):
    """One plain line: the message, the end of stderr where a command failed, the first failed item of a loop."""
    if _is_secret(data):
        return "output is hidden (no_log)"
    for item in data.get("results") or ():
        if isinstance(item, dict) and (item.get("failed") or item.get("unreachable")):
            return _reason(item)
    parts = [str(data.get("msg") or "")]
    for key in ("stderr", "module_stderr", "stdout", "module_stdout"):
        lines = [line for line in str(data.get(key) or "").splitlines() if line.strip()]
        if lines:
            parts.append(" | ".join(lines[-3:]))
            break
    if errors := data.get("argument_errors"):
        parts.append("; ".join(map(str, errors)))
    return _short(": ".join(part for part in parts if part) or "no message")


def _short(value):
    text = " ".join(str(value).split())
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"


def _diff(data):
    """Text of the diffs that Ansible would show with --diff, capped; tasks with `diff: false` have none."""
    diffs = data.get("diff") or []
    shown = []
    for one in diffs if isinstance(diffs, list) else [diffs]:
        if isinstance(one, dict) and one:
            shown.append(json.dumps(one, default=str))
    return " ".join(shown)[:DIFF_CHARS]
