"""What moto 5.2 lacks beside EC2: FSx life cycles and data repositories, EC2's quotas, KMS keys by ARN."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from tests.emulator import shims_ec2, shims_launch, world


def install() -> None:
    shims_ec2.install()
    shims_launch.install()
    _fsx()
    _kms()
    _quotas()
    _iam()


def _fsx() -> None:
    from moto.fsx.exceptions import FileSystemNotFound
    from moto.fsx.models import FileSystem, FSxBackend
    from moto.fsx.responses import FSxResponse

    init, to_dict, delete = FileSystem.__init__, FileSystem.to_dict, FSxBackend.delete_file_system
    listed = FSxBackend.describe_file_systems

    def made(self: Any, *args: Any, **given: Any) -> None:
        init(self, *args, **given)
        self.born = time.time()
        region, self.file_system_id = self.backend.region_name, f"fs-{uuid.uuid4().hex[:17]}"
        dns = "amazonaws.eu" if self.backend.partition == "aws-eusc" else "amazonaws.com"
        self.dns_name = f"{self.file_system_id}.fsx.{region}.{dns}"
        self.resource_arn = (
            f"arn:{self.backend.partition}:fsx:{region}:{self.backend.account_id}:file-system/{self.file_system_id}"
        )

    def as_dict(self: Any) -> dict[str, Any]:
        found = to_dict(self)
        ready = time.time() - self.born >= world.state.pending_s
        subnet = world.ec2(self.backend.region_name).get_subnet(self.subnet_ids[0])
        found.update(
            Lifecycle="AVAILABLE" if ready else "CREATING", VpcId=subnet.vpc_id, OwnerId=world.ACCOUNT,
            StorageType=found.get("StorageType") or "SSD", CreationTime=self.born, NetworkInterfaceIds=[],
            FileSystemTypeVersion="2.15",
        )  # fmt: skip
        if found.get("LustreConfiguration"):
            found["LustreConfiguration"] = {"MountName": "fsx", "CopyTagsToBackups": False} | found[
                "LustreConfiguration"
            ]
        return found

    def describe(self: Any, file_system_ids: list[str], **paging: Any) -> Any:
        for name in file_system_ids or ():
            if name not in self.file_systems:
                raise FileSystemNotFound(name)
        return listed(self, file_system_ids=file_system_ids, **paging)

    def deleted(self: Any, file_system_id: str, *args: Any, **given: Any) -> Any:
        for key in [k for k, v in world.state.associations.items() if v["FileSystemId"] == file_system_id]:
            world.state.associations.pop(key)
        return delete(self, file_system_id, *args, **given)

    def create_association(self: Any) -> str:
        given = json.loads(self.body)
        if given["FileSystemId"] not in self.fsx_backend.file_systems:
            raise FileSystemNotFound(given["FileSystemId"])
        name = f"dra-{uuid.uuid4().hex[:17]}"
        arn = (
            f"arn:{self.partition}:fsx:{self.region}:{self.current_account}:association/{given['FileSystemId']}/{name}"
        )
        kept = {key: value for key, value in given.items() if key != "ClientRequestToken"}
        kept.update(AssociationId=name, ResourceARN=arn, Lifecycle="AVAILABLE", CreationTime=time.time())
        world.state.associations[self.region, name] = kept
        return json.dumps({"Association": kept})

    def describe_associations(self: Any) -> str:
        given = json.loads(self.body)
        wanted = {f["Name"]: f["Values"] for f in given.get("Filters", [])}.get("file-system-id")
        here = [kept for (region, _), kept in world.state.associations.items() if region == self.region]
        found = [
            kept
            for kept in here
            if kept["AssociationId"] in (given.get("AssociationIds") or [kept["AssociationId"]])
            and kept["FileSystemId"] in (wanted or [kept["FileSystemId"]])
        ]
        return json.dumps({"Associations": found})

    def delete_association(self: Any) -> Any:
        given = json.loads(self.body)
        kept = world.state.associations.pop((self.region, given["AssociationId"]), None)
        if kept is None:
            error = {"__type": "DataRepositoryAssociationNotFound", "message": given["AssociationId"]}
            return json.dumps(error), {"status": 400}
        return json.dumps(
            {"AssociationId": kept["AssociationId"], "Lifecycle": "DELETING", "DeleteDataInFileSystem": False}
        )

    FileSystem.__init__, FileSystem.to_dict = made, as_dict
    FSxBackend.describe_file_systems, FSxBackend.delete_file_system = describe, deleted
    FSxResponse.create_data_repository_association = create_association
    FSxResponse.describe_data_repository_associations = describe_associations
    FSxResponse.delete_data_repository_association = delete_association


def _kms() -> None:
    from moto.kms import responses
    from moto.kms.models import KmsBackend

    schedule, named = KmsBackend.schedule_key_deletion, responses._assert_default_policy

    def by_any_name(self: Any, key_id: str, pending_window_in_days: int) -> float:
        return float(schedule(self, self.any_id_to_key_id(key_id), pending_window_in_days))

    def policy_named(name: str | None) -> None:
        if name is not None:
            named(name)

    KmsBackend.schedule_key_deletion, responses._assert_default_policy = by_any_name, policy_named


def _quotas() -> None:
    from moto.servicequotas.exceptions import NoSuchResource
    from moto.servicequotas.models import ServiceQuotasBackend
    from moto.servicequotas.responses import ServiceQuotasResponse

    one = ServiceQuotasBackend.get_service_quota

    def ec2() -> list[dict[str, Any]]:
        return [
            {
                "ServiceCode": "ec2", "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)", "QuotaCode": code,
                "QuotaName": name, "Value": world.state.quotas.get(code, 100000.0), "Unit": "None", "Adjustable": True,
                "GlobalQuota": False,
            }
            for code, name in world.QUOTAS.items()
        ]  # fmt: skip

    def get(self: Any, service_code: str, quota_code: str) -> dict[str, Any]:
        if service_code != "ec2":
            return dict(one(self, service_code, quota_code))
        found = next((quota for quota in ec2() if quota["QuotaCode"] == quota_code), None)
        if found is None:
            raise NoSuchResource
        return found

    def listed(self: Any) -> str:
        code = json.loads(self.body)["ServiceCode"]
        return json.dumps({"Quotas": ec2() if code == "ec2" else self.backend.list_aws_default_service_quotas(code)})

    ServiceQuotasBackend.get_service_quota = get
    ServiceQuotasResponse.list_service_quotas = listed


def _iam() -> None:
    from moto.core.responses import ActionResult
    from moto.iam.responses import IamResponse

    def simulate(self: Any) -> Any:
        asked = self._get_param("ActionNames", [])
        resources = self._get_param("ResourceArns", []) or ["*"]
        return ActionResult(
            {
                "IsTruncated": False,
                "EvaluationResults": [
                    {
                        "EvalActionName": action,
                        "EvalResourceName": resource,
                        "EvalDecision": "implicitDeny" if action in world.state.denied else "allowed",
                    }
                    for action in asked
                    for resource in resources
                ],
            }
        )

    IamResponse.simulate_principal_policy = simulate
