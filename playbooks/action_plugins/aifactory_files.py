"""Renders the templates of `aifactory_files` on the controller and sends all of them in one module run."""

from __future__ import annotations

import base64
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        templar = self._templar.copy_with_new_env(available_variables=task_vars)
        args["files"] = [self._rendered(templar, entry) for entry in args.get("files") or ()]
        result = self._execute_module("aifactory_files", module_args=args, task_vars=task_vars)
        result.pop("invocation", None)  # the contents, encoded
        if self._task.diff is False:
            result.pop("diff", None)
        return result

    def _rendered(self, templar, entry):
        """The entry with `src` or `content` turned into `content_base64`."""
        entry = dict(entry)
        src, content = entry.pop("src", None), entry.pop("content", None)
        if (src is None) == (content is None):
            raise AnsibleActionFail(f"{entry.get('dest')}: give either src or content")
        if src is not None:
            path = TEMPLATES / src
            if not path.is_file():
                raise AnsibleActionFail(f"templates/{src} does not exist")
            try:
                content = templar.template(
                    trust_as_template(path.read_text()),
                    escape_backslashes=False,
                    overrides={"trim_blocks": True, "lstrip_blocks": True},
                )
            except AnsibleError as error:
                raise AnsibleActionFail(f"templates/{src}: {error}") from error
        entry["content_base64"] = base64.b64encode(str(content).encode()).decode()
        return entry
