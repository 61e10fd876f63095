"""dcgmi: what is there, and the quick diagnosis."""

from __future__ import annotations

import json

from . import core, smi


def run(_name: str, arguments: list[str]) -> int:
    if arguments[:1] in (["-v"], ["--version"]):
        print("dcgmi  version: 4.6.0")
        return 0
    try:
        view = smi.with_driver(core.view())
    except smi.Refusal:
        print("Error: unable to establish a connection to the specified host: localhost")
        return 1
    if not core.alive("nv-hostengine"):
        print("Error: unable to establish a connection to the specified host: localhost")
        return 1
    chosen = smi.gpus(view)
    if arguments[:1] == ["discovery"]:
        print(f"{len(chosen)} GPUs found.")
        for gpu in chosen:
            print(f"| {gpu['index']:<6} | Name: {gpu['name']}\n|        | PCI Bus ID: {smi.bus_id(gpu)}")
        return 0
    bad = [gpu["index"] for gpu in chosen if smi.numbers(view, gpu)["recovery"] != "None"]
    results = [{"entity_group": "GPU", "entity_id": gpu["index"], "status": "Fail" if gpu["index"] in bad else "Pass"}
               for gpu in chosen]  # fmt: skip
    tests = [{"name": "software", "results": results, "test_summary": {"status": "Fail" if bad else "Pass"}}]
    told = {"DCGM Diagnostic": {"test_categories": [{"category": "Deployment", "tests": tests}]}}
    print(json.dumps(told) if "-j" in arguments else f"|  Overall Result  | {'Fail' if bad else 'Pass'} |")
    return 226 if bad else 0
