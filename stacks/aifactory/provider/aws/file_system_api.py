"""FSx for Lustre as a file system and its repository need it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aifactory.provider.aws import owned, tags
from aifactory.provider.aws.api import VISIBLE_S, Api
from aifactory.provider.aws.failures import CloudError

DEPLOYMENT = "PERSISTENT_2"
"""The newest type, and the one whose sizes and throughputs the limits table has."""
VERSION = "2.15"
"""Recommended for all new file systems; without it a persistent one gets 2.12. Source: FSx API, CreateFileSystem."""
ROOT = "/"
"""The bucket's objects are the files from the root on. Source: FSx API, CreateDataRepositoryAssociation."""
FROM_BUCKET = ["NEW", "CHANGED", "DELETED"]
INTO_BUCKET = ["NEW", "CHANGED"]
"""A file that is deleted keeps its object: nothing here deletes data that nobody named."""
ENDING = "DELETING"
READY = "AVAILABLE"
BROKEN = ("FAILED", "MISCONFIGURED", "MISCONFIGURED_UNAVAILABLE")
NO_REASON = "no reason given"
UNDER_WAY = ("PENDING", "IN_PROGRESS")
WAIT_S = 3600.0
"""Until a file system is made, grown or gone."""
LOOK_S = 10.0


@dataclass(frozen=True)
class FileSystem:
    id: str
    arn: str
    lifecycle: str
    failure: str
    dns_name: str
    mount_name: str
    capacity_gib: int
    throughput: int
    """MB/s for each TiB."""
    growing_to: int
    """GiB that an update under way will end with; 0 without one."""
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Repository:
    """An association with a bucket."""

    id: str
    lifecycle: str
    failure: str
    bucket: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Order:
    """What a new file system is to be."""

    capacity_gib: int
    throughput: int
    subnet_id: str
    security_group: str
    key_arn: str


def one(api: Api, id: str) -> FileSystem | None:
    """None where it is gone; one that is on its way out counts as gone only when it is."""
    answer = owned.absent_is_none(lambda: api.call("fsx", "DescribeFileSystems", FileSystemIds=[id]))
    found = (answer or {}).get("FileSystems") or [None]
    return None if found[0] is None else _file_system(found[0])


def by_tags(api: Api, mine: Mapping[str, str]) -> FileSystem | None:
    """FSx has no search by tag: all of the region are read, fifty a page."""
    every = (_file_system(item) for item in api.pages("fsx", "DescribeFileSystems", "FileSystems"))
    return next((fs for fs in every if owned.is_ours(fs.tags, mine) and fs.lifecycle != ENDING), None)


def make(api: Api, order: Order, mine: Mapping[str, str], client_token: str) -> tuple[FileSystem, bool]:
    """This resource's file system, and whether it was made just now."""

    def find() -> tuple[FileSystem, bool] | None:
        found = by_tags(api, mine)
        return None if found is None else (found, False)

    return api.create(
        "fsx",
        "CreateFileSystem",
        find,
        lambda answer: (_file_system(answer["FileSystem"]), True),
        ClientRequestToken=client_token,
        FileSystemType="LUSTRE",
        FileSystemTypeVersion=VERSION,
        StorageType="SSD",
        StorageCapacity=order.capacity_gib,
        SubnetIds=[order.subnet_id],
        SecurityGroupIds=[order.security_group],
        KmsKeyId=order.key_arn,
        Tags=tags.pairs(mine),
        LustreConfiguration={"DeploymentType": DEPLOYMENT, "PerUnitStorageThroughput": order.throughput},
    )


def settled(api: Api, id: str, *, capacity_gib: int = 0) -> FileSystem:
    """Waits until it is ready and at least that large. Raises CloudError where it never will be."""
    started, read = time.monotonic(), "DescribeFileSystems"

    def look() -> FileSystem | None:
        found, late = one(api, id), time.monotonic() - started > VISIBLE_S
        if found is None:
            if late:
                raise CloudError(read, "FileSystemNotFound", f"{id} is gone")
            return None
        if found.lifecycle in BROKEN:
            raise CloudError(read, found.lifecycle, f"{id}: {found.failure or NO_REASON}")
        api.ctx.progress(f"file system {id}: {found.lifecycle}, {found.capacity_gib} GiB")
        if found.lifecycle != READY:
            return None
        if found.capacity_gib < capacity_gib and late and found.growing_to != capacity_gib:
            raise CloudError(read, "NotGrown", f"{id} has {found.capacity_gib} GiB still, and its update has ended")
        return found if found.capacity_gib >= capacity_gib else None

    return api.until(look, f"file system {id}", timeout_s=WAIT_S, every_s=LOOK_S)


def update(api: Api, file_system_id: str, client_token: str, **change: Any) -> None:
    """Asks for another size or throughput. One change at a time; `settled` waits for it."""
    api.call("fsx", "UpdateFileSystem", FileSystemId=file_system_id, ClientRequestToken=client_token, **change)


def remove(api: Api, found: FileSystem) -> None:
    """With all files, without a last backup; repositories go with it. Returns when it is gone."""
    if found.lifecycle != ENDING:
        owned.removed(
            api,
            "fsx",
            "DeleteFileSystem",
            FileSystemId=found.id,
            LustreConfiguration={"SkipFinalBackup": True},
        )

    def gone() -> bool | None:
        left = one(api, found.id)
        if left is None:
            return True
        api.ctx.progress(f"file system {found.id}: {left.lifecycle}")
        return None

    api.until(gone, f"file system {found.id}", timeout_s=WAIT_S, every_s=LOOK_S)


def mark(api: Api, found: FileSystem, mine: Mapping[str, str]) -> None:
    if any(found.tags.get(name) != text for name, text in mine.items()):
        api.call("fsx", "TagResource", ResourceARN=found.arn, Tags=tags.pairs(mine))


# -- repositories


def repositories(api: Api, file_system_id: str) -> list[Repository]:
    chosen = [{"Name": "file-system-id", "Values": [file_system_id]}]
    listed = api.pages("fsx", "DescribeDataRepositoryAssociations", "Associations", Filters=chosen)
    return [_repository(item) for item in listed if item.get("Lifecycle") != ENDING]


def connect(api: Api, file_system_id: str, bucket: str, mine: Mapping[str, str], client_token: str) -> None:
    """Joins the bucket, whose objects then are the file system's files. Waits until it is so."""

    def find() -> Repository | None:
        return next((found for found in repositories(api, file_system_id) if found.bucket == bucket), None)

    api.create(
        "fsx",
        "CreateDataRepositoryAssociation",
        find,
        lambda answer: _repository(answer["Association"]),
        ClientRequestToken=client_token,
        FileSystemId=file_system_id,
        FileSystemPath=ROOT,
        DataRepositoryPath=f"s3://{bucket}/",
        BatchImportMetaDataOnCreate=True,
        S3={"AutoImportPolicy": {"Events": FROM_BUCKET}, "AutoExportPolicy": {"Events": INTO_BUCKET}},
        Tags=tags.pairs(mine),
    )

    def ready() -> bool | None:
        found = find()
        if found is not None and found.lifecycle in BROKEN:
            code = found.lifecycle
            raise CloudError(
                "DescribeDataRepositoryAssociations", code, f"{bucket}: {found.failure or 'no reason given'}"
            )
        api.ctx.progress(f"bucket {bucket}: {found.lifecycle if found else 'not seen yet'}")
        return True if found is not None and found.lifecycle == READY else None

    api.until(ready, f"repository {bucket} of {file_system_id}", timeout_s=WAIT_S, every_s=LOOK_S)


def disconnect(api: Api, file_system_id: str, found: Repository) -> None:
    """Lets the bucket go; files stay in the file system, objects in the bucket."""
    owned.removed(api, "fsx", "DeleteDataRepositoryAssociation", AssociationId=found.id, DeleteDataInFileSystem=False)
    filters: dict[str, Any] = {"AssociationIds": [found.id]}

    def gone() -> bool | None:
        answer = owned.absent_is_none(lambda: api.call("fsx", "DescribeDataRepositoryAssociations", **filters))
        return None if (answer or {}).get("Associations") else True

    api.until(gone, f"repository {found.bucket} of {file_system_id}", timeout_s=WAIT_S, every_s=LOOK_S)


def _file_system(item: dict[str, Any]) -> FileSystem:
    lustre = item.get("LustreConfiguration") or {}
    return FileSystem(
        id=str(item["FileSystemId"]),
        arn=str(item.get("ResourceARN", "")),
        lifecycle=str(item.get("Lifecycle", "")),
        failure=str((item.get("FailureDetails") or {}).get("Message", "")),
        dns_name=str(item.get("DNSName", "")),
        mount_name=str(lustre.get("MountName", "")),
        capacity_gib=int(item.get("StorageCapacity", 0)),
        throughput=int(lustre.get("PerUnitStorageThroughput", 0)),
        growing_to=_growing_to(item.get("AdministrativeActions") or ()),
        tags=tags.read(item.get("Tags")),
    )


def _growing_to(actions: Any) -> int:
    sizes = [
        int((action.get("TargetFileSystemValues") or {}).get("StorageCapacity") or 0)
        for action in actions
        if action.get("AdministrativeActionType") == "FILE_SYSTEM_UPDATE" and action.get("Status") in UNDER_WAY
    ]
    return max(sizes, default=0)


def _repository(item: dict[str, Any]) -> Repository:
    return Repository(
        id=str(item["AssociationId"]),
        lifecycle=str(item.get("Lifecycle", "")),
        failure=str((item.get("FailureDetails") or {}).get("Message", "")),
        bucket=str(item.get("DataRepositoryPath", "")).removeprefix("s3://").rstrip("/"),
        tags=tags.read(item.get("Tags")),
    )
