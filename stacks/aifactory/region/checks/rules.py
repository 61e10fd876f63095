"""Every rule of the region file: stable id → what it holds a file to. Shown in docs/region-rules.md and in SARIF."""

from __future__ import annotations

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    # the file
    "SPEC-001": "The file can be read.",
    "SPEC-002": "The file is of a size that a region can have.",
    "SPEC-003": "The file is UTF-8, without characters that YAML forbids or that reorder text on the screen.",
    "SPEC-004": "The file is YAML 1.2.",
    "SPEC-005": "The file is one document of `key: value` lines.",
    "SPEC-006": "Every value stands where it is used: no anchors, aliases, merge keys or tags.",
    "SPEC-007": "A key stands once in its section.",
    "SPEC-008": "Sections are not nested deeper than the format.",
    "SPEC-009": "Keys are words; numbers and texts are of a kind that the format can hold.",
    "SPEC-010": "No secret is written in clear.",
    # words of the catalogue
    "SPEC-011": "A model is one of the catalogue.",
    "SPEC-012": "A shape is one that the provider has.",
    "SPEC-013": "A driver branch is one of the catalogue.",
    "SPEC-014": "A country is one of ISO 3166-1.",
    "SPEC-015": "A regime is one of the catalogue.",
    "SPEC-016": "A partition is one of the clouds of the provider.",
    "SPEC-017": "A cloud region is one of its partition.",
    "SPEC-018": "A service names a pool of the region.",
    # the shape
    "SPEC-020": "Required keys are there.",
    "SPEC-021": "Keys are keys of the format.",
    "SPEC-022": "Values are of the right type.",
    "SPEC-023": "Numbers are in range and lists long enough.",
    "SPEC-024": "A value with fixed words is one of them.",
    "SPEC-025": "A text has the form of what it names.",
    # one region
    "SPEC-030": "The region's name is the file's stem.",
    "SPEC-031": "Names are unique among pools, hosts, services, storage and clients.",
    "SPEC-032": "No two hosts share an address and port.",
    "SPEC-033": "No host is named like a node that the toolkit makes.",
    "SPEC-034": "No pool takes the name of the front door's own nodes.",
    "SPEC-035": "A pool has `hosts` where hosts exist (static) and `nodes` where they are made.",
    "SPEC-036": "A host key is an SSH public key, whole and strong.",
    "SPEC-037": "A network is written by its first address, private, and /16 to /24.",
    "SPEC-038": "A network has an address for every node.",
    "SPEC-039": "What may pass is written as hosts with ports and as networks.",
    "SPEC-040": "The engine serves the model on the pool's hardware.",
    "SPEC-041": "Model, engine and hardware share the precision.",
    "SPEC-042": "The context is not longer than the model's own.",
    "SPEC-043": "A key is used with a provider for which it means something.",
    "SPEC-044": "A pool's zone is one of the provider's zones.",
    "SPEC-045": "Capacity that is reserved is named, other capacity is not.",
    "SPEC-046": "A jump host comes with its host key.",
    "SPEC-047": "Addresses and logins have a form that SSH takes.",
    "SPEC-048": "Credentials have exactly one source.",
    "SPEC-049": "Endpoints are https URLs, and there where the cloud needs them.",
    "SPEC-050": "Storage has the keys of its kind.",
    "SPEC-051": "A mount point is free and outside the system.",
    "SPEC-052": "The front door's keys agree with each other.",
    "SPEC-053": "A host name is one that DNS takes.",
    "SPEC-054": "The fabric is one that the shapes have.",
    "SPEC-055": "The driver drives the GPUs and carries the CUDA version.",
    "SPEC-056": "A power cap is below what the GPU draws anyway.",
    "SPEC-057": "State and secrets stand at URLs that the engine knows.",
    # several regions
    "SPEC-060": "No two files have the same region name.",
    "SPEC-061": "Networks of local regions do not overlap.",
    "SPEC-062": "No two regions of a partition have a bucket of the same name.",
    "SPEC-063": "Local regions publish their front doors on different ports.",
    "SPEC-064": "No two regions answer to the same host name.",
    "SPEC-065": "No host belongs to two regions.",
    "SPEC-066": "No two regions make nodes of the same name.",
    # a running region
    "SPEC-070": "A change is one that a running region allows.",
}
