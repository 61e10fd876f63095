"""Calls of an API: pace, repetition, lost answers, cancel. Real: botocore, HTTP to a server on loopback. Time is not:
a fake clock goes on by what is waited."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aifactory.provider.aws import api as module
from aifactory.provider.aws import clients as guarded
from aifactory.provider.aws import failures, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.clients import Clients
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.limiter import Limiter
from aifactory.provider.resource import Cancelled, Context, Refused, TimedOut
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.provider.aws.loopback import CUT, KEYS, Answer, Loopback, ec2, ec2_error, serving
from tests.provider.harness import Lines, context

VPCS = ec2("DescribeVpcs", "<vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet>")
MADE = ec2("CreateVpc", "<vpc><vpcId>vpc-1</vpcId></vpc>")


class Clock(threading.Event):
    """A cancel event whose waits take no time: they are noted, and the clock goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits: list[float] = []
        self.on_wait: Callable[[float], None] = lambda _: None

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        if timeout:
            self.waits.append(timeout)
            self.on_wait(timeout)
        return self.is_set()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def server() -> Iterator[Loopback]:
    with serving() as running:
        yield running


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def ctx(clock: Clock, lines: Lines) -> Context:
    return context(cancel=clock, lines=lines)


@pytest.fixture
def api(server: Loopback, ctx: Context, clock: Clock) -> Api:
    clients = Clients(server.cloud(), KEYS)
    clients.limiter = Limiter(clock.monotonic)
    return Api(ctx, server.cloud(), clients)


class Seen:
    """What `find` gives at each look: the last one for ever."""

    def __init__(self, *looks: str | None) -> None:
        self.looks, self.asked = list(looks), 0

    def __call__(self) -> str | None:
        self.asked += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def create(api: Api, find: Callable[[], str | None], **given: Any) -> str:
    return api.create("ec2", "CreateVpc", find, lambda answer: str(answer["Vpc"]["VpcId"]), **given)


# -- whose account


def test_account_is_asked_once_by_all_threads(server: Loopback, api: Api) -> None:
    server.say("DescribeVpcs", VPCS)
    with ThreadPoolExecutor(16) as pool:
        for answer in [pool.submit(api.call, "ec2", "DescribeVpcs") for _ in range(32)]:
            answer.result()
    assert server.count("GetCallerIdentity") == 1
    assert server.requests[0].action == "GetCallerIdentity"


def test_keys_of_another_account_do_nothing(server: Loopback, ctx: Context) -> None:
    cloud = server.cloud()
    object.__setattr__(cloud, "account", "999999999999")
    with pytest.raises(Refused, match=r"\[LOC-02\]"):
        Api(ctx, cloud, Clients(cloud, KEYS)).call("ec2", "DescribeVpcs")
    assert [request.action for request in server.requests] == ["GetCallerIdentity"]


def test_account_is_asked_again_when_the_answer_is_lost(server: Loopback, api: Api) -> None:
    said = server._answers["GetCallerIdentity"][0]
    server.say("GetCallerIdentity", CUT, said)
    server.say("DescribeVpcs", VPCS)
    api.call("ec2", "DescribeVpcs")
    assert server.count("GetCallerIdentity") == 2


# -- asked again, and how


@pytest.mark.parametrize(
    "failure",
    [
        ec2_error("RequestLimitExceeded", 503),
        ec2_error("ServiceUnavailable", 503),
        ec2_error("InternalError", 500),
        Answer("no xml", 502),
        CUT,
    ],
)
def test_call_that_may_be_repeated_is_asked_until_it_is_answered(failure: Answer, server: Loopback, api: Api) -> None:
    server.say("DescribeVpcs", *[failure] * 4, VPCS)
    assert api.call("ec2", "DescribeVpcs")["Vpcs"][0]["VpcId"] == "vpc-1"
    assert server.count("DescribeVpcs") == 5


@pytest.mark.parametrize("code", ["InvalidParameterValue", "UnauthorizedOperation", "VpcLimitExceeded", "ExpiredToken"])
def test_call_that_will_never_do_is_asked_once(code: str, server: Loopback, api: Api) -> None:
    server.say("DescribeVpcs", ec2_error(code))
    with pytest.raises(CloudError, match=f"DescribeVpcs: {code}: told to"):
        api.call("ec2", "DescribeVpcs")
    assert server.count("DescribeVpcs") == 1


def test_pauses_grow_to_ten_seconds_and_end_after_five_minutes(server: Loopback, api: Api, clock: Clock) -> None:
    server.say("DescribeDBs", ec2_error("ServiceUnavailable", 503))
    server.say("DescribeVpcs", ec2_error("ServiceUnavailable", 503))
    began = clock.now
    with pytest.raises(CloudError) as caught:
        api.call("ec2", "DescribeVpcs")
    assert caught.value.kind == "transient"
    assert clock.waits[0] <= 0.6
    assert all(5.0 <= pause <= 10.0 for pause in clock.waits[6:])
    assert module.PATIENCE_S <= clock.now - began <= module.PATIENCE_S + 10
    assert len(clock.waits) > 30


def test_pauses_are_spread(server: Loopback, api: Api, clock: Clock) -> None:
    """Threads that were refused together do not come back together."""
    server.say("DescribeVpcs", *[ec2_error("ServiceUnavailable", 503)] * 20, VPCS)
    api.call("ec2", "DescribeVpcs")
    assert len(set(clock.waits)) == len(clock.waits)


def test_third_repetition_is_said(server: Loopback, api: Api, lines: Lines) -> None:
    server.say("DescribeVpcs", *[ec2_error("RequestLimitExceeded", 503)] * 3, VPCS)
    api.call("ec2", "DescribeVpcs")
    assert len(lines.progress) == 1
    assert lines.progress[0].startswith("ec2 DescribeVpcs: asked too often; asked again (")


def test_service_that_cannot_be_reached_is_asked_again(server: Loopback, ctx: Context, clock: Clock) -> None:
    cloud = server.cloud(endpoints={"ec2": "http://127.0.0.1:9", "sts": server.url})
    with pytest.raises(CloudError) as caught:
        Api(ctx, cloud, Clients(cloud, KEYS)).call("ec2", "DescribeVpcs")
    assert (caught.value.kind, caught.value.code) == ("transient", "EndpointConnectionError")
    assert len(clock.waits) > 30


def test_answer_that_never_comes_is_asked_for_again(
    server: Loopback, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "READ_TIMEOUT_S", 0.2)
    slow = threading.Event()
    answer = server.answer

    def hang_once(request: Any) -> Answer:
        if request.action == "DescribeVpcs" and not slow.is_set():
            slow.set()
            threading.Event().wait(1.0)
        return answer(request)

    monkeypatch.setattr(server, "answer", hang_once)
    server.say("DescribeVpcs", VPCS)
    api = Api(ctx, server.cloud(), Clients(server.cloud(), KEYS))
    assert api.call("ec2", "DescribeVpcs")["Vpcs"]


def test_certificate_that_is_wrong_is_not_asked_again(ctx: Context, clock: Clock, tmp_path: Path) -> None:
    with serving() as server:
        server.socket = _self_signed(tmp_path).wrap_socket(server.socket, server_side=True)
        cloud = server.cloud(endpoints={"sts": server.url.replace("http:", "https:")})
        with pytest.raises(CloudError) as caught:
            Api(ctx, cloud, Clients(cloud, KEYS)).call("sts", "GetCallerIdentity")
    assert (caught.value.kind, caught.value.code) == ("other", "SSLError")
    assert clock.waits == []
    assert server.requests == []


def _self_signed(folder: Path) -> ssl.SSLContext:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trap")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "both.pem").write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


def test_object_that_was_just_made_may_be_unseen_for_a_minute(server: Loopback, api: Api, clock: Clock) -> None:
    server.say("DescribeVpcs", *[ec2_error("InvalidVpcID.NotFound")] * 3, VPCS)
    api.call("ec2", "DescribeVpcs", just_made=True)
    server.say("DescribeVpcs", ec2_error("InvalidVpcID.NotFound"))
    began = clock.now
    with pytest.raises(CloudError, match="NotFound"):
        api.call("ec2", "DescribeVpcs", just_made=True)
    assert module.VISIBLE_S <= clock.now - began <= module.VISIBLE_S + 10


def test_object_that_is_gone_is_not_waited_for(server: Loopback, api: Api, clock: Clock) -> None:
    server.say("DescribeVpcs", ec2_error("InvalidVpcID.NotFound"))
    with pytest.raises(CloudError) as caught:
        api.call("ec2", "DescribeVpcs")
    assert caught.value.kind == "absent"
    assert clock.waits == []


# -- cancel, deadline


def test_cancel_is_heard_while_waiting_to_ask_again(server: Loopback, api: Api, clock: Clock) -> None:
    server.say("DescribeVpcs", ec2_error("ServiceUnavailable", 503))
    clock.on_wait = lambda _: clock.set()
    with pytest.raises(Cancelled):
        api.call("ec2", "DescribeVpcs")
    assert server.count("DescribeVpcs") == 1


def test_cancel_is_heard_before_a_call(server: Loopback, api: Api, clock: Clock) -> None:
    clock.set()
    for service, action in (("ec2", "DescribeVpcs"), ("iam", "ListRoles")):
        with pytest.raises(Cancelled):
            api.call(service, action)
    assert server.requests == []


def test_cancel_is_heard_while_the_limiter_holds_a_call_back(server: Loopback, api: Api, clock: Clock) -> None:
    server.say("DescribeVpcs", VPCS)
    api.call("ec2", "DescribeVpcs")
    api.clients.limiter.take("RunInstances", 50)
    clock.on_wait = lambda _: clock.set()
    with pytest.raises(Cancelled):
        api.call("ec2", "RunInstances", MinCount=1, MaxCount=1)
    assert server.count("RunInstances") == 0


def test_cancel_is_heard_while_another_thread_asks_for_the_account(server: Loopback, api: Api, clock: Clock) -> None:
    with api.clients.account_mutex:
        clock.set()
        with pytest.raises(Cancelled):
            api.call("ec2", "DescribeVpcs")


def test_deadline_is_heard_while_waiting(server: Loopback, ctx: Context, api: Api, clock: Clock) -> None:
    server.say("DescribeVpcs", ec2_error("ServiceUnavailable", 503))
    clock.on_wait = lambda _: setattr(ctx, "deadline", 0.0)
    with pytest.raises(TimedOut):
        api.call("ec2", "DescribeVpcs")
    assert server.count("DescribeVpcs") == 1


# -- creates


def test_create_finds_what_is_there_and_makes_nothing(server: Loopback, api: Api) -> None:
    assert create(api, Seen("vpc-0")) == "vpc-0"
    assert server.requests == []


def test_create_makes_what_is_not_there(server: Loopback, api: Api) -> None:
    server.say("CreateVpc", MADE)
    assert create(api, Seen(None)) == "vpc-1"
    assert server.count("CreateVpc") == 1


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_lost_answer_of_a_create_is_adopted_even_when_it_is_seen_late(
    looks: int, server: Loopback, api: Api, clock: Clock
) -> None:
    server.say("CreateVpc", CUT, MADE)
    assert create(api, Seen(None, *[None] * (looks - 1), "vpc-lost")) == "vpc-lost"
    assert server.count("CreateVpc") == 1


def test_create_that_did_not_arrive_is_asked_again(server: Loopback, api: Api) -> None:
    server.say("CreateVpc", CUT, MADE)
    assert create(api, Seen(None)) == "vpc-1"
    assert server.count("CreateVpc") == 2


def test_create_that_failed_inside_the_service_is_looked_for(server: Loopback, api: Api) -> None:
    server.say("CreateVpc", ec2_error("InternalError", 500), MADE)
    assert create(api, Seen(None, "vpc-lost")) == "vpc-lost"
    assert server.count("CreateVpc") == 1


def test_throttled_create_was_not_made_and_is_not_looked_for(server: Loopback, api: Api) -> None:
    server.say("CreateVpc", *[ec2_error("RequestLimitExceeded", 503)] * 3, MADE)
    find = Seen(None)
    assert create(api, find) == "vpc-1"
    assert find.asked == 1


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_name_that_is_taken_by_our_own_is_adopted(looks: int, server: Loopback, api: Api) -> None:
    server.say("CreateVpc", ec2_error("InvalidGroup.Duplicate"))
    assert create(api, Seen(None, *[None] * looks, "vpc-ours")) == "vpc-ours"


def test_name_that_is_taken_by_somebody_else_is_refused(server: Loopback, api: Api) -> None:
    server.say("CreateVpc", ec2_error("InvalidGroup.Duplicate"))
    with pytest.raises(CloudError) as caught:
        create(api, Seen(None))
    assert caught.value.kind == "exists"
    assert server.count("CreateVpc") == 1


def test_create_inside_something_just_made_waits_until_that_is_seen(server: Loopback, api: Api) -> None:
    server.say("CreateVpc", ec2_error("InvalidVpcID.NotFound"), MADE)
    assert create(api, Seen(None), just_made=True) == "vpc-1"
    server.say("CreateVpc", ec2_error("InvalidVpcID.NotFound"), MADE)
    with pytest.raises(CloudError):
        create(api, Seen(None))


# -- until


def test_until_looks_with_growing_pauses_and_gives_what_it_finds(api: Api, clock: Clock) -> None:
    assert api.until(Seen(*[None] * 9, "ready"), "gateway", every_s=2.0) == "ready"
    assert clock.waits[0] == 0.25
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[-1] == 2.0


def test_until_gives_up_and_says_what_it_waited_for(api: Api, clock: Clock) -> None:
    with pytest.raises(CloudError, match="gateway nat-1: Timeout: not so after 60 s"):
        api.until(Seen(None), "gateway nat-1", timeout_s=60)
    assert 60 <= sum(clock.waits) <= 62


def test_until_hears_cancel(api: Api, clock: Clock) -> None:
    clock.on_wait = lambda _: clock.set()
    with pytest.raises(Cancelled):
        api.until(Seen(None), "gateway")


# -- pages


def test_pages_follow_the_token_of_the_service(server: Loopback, api: Api) -> None:
    def page(name: str, more: str) -> Answer:
        return ec2("DescribeVpcs", f"<vpcSet><item><vpcId>{name}</vpcId></item></vpcSet>{more}")

    server.say("DescribeVpcs", page("vpc-1", "<nextToken>two</nextToken>"), page("vpc-2", ""))
    found = [vpc["VpcId"] for vpc in api.pages("ec2", "DescribeVpcs", "Vpcs", MaxResults=5)]
    assert found == ["vpc-1", "vpc-2"]
    assert b"NextToken=two" in server.requests[-1].body
    assert b"MaxResults=5" in server.requests[-1].body


def test_pages_end_where_the_service_says_that_there_is_no_more(server: Loopback, api: Api) -> None:
    def page(name: str, more: str) -> Answer:
        roles = f"<member><RoleName>{name}</RoleName></member>"
        inner = f"<Roles>{roles}</Roles><IsTruncated>{more}</IsTruncated><Marker>m-{name}</Marker>"
        return Answer(f"<ListRolesResponse><ListRolesResult>{inner}</ListRolesResult></ListRolesResponse>")

    server.say("ListRoles", page("a", "true"), page("b", "false"))
    assert [role["RoleName"] for role in api.pages("iam", "ListRoles", "Roles")] == ["a", "b"]
    assert b"Marker=m-a" in server.requests[-1].body


def test_pages_with_two_tokens_send_both(server: Loopback, api: Api) -> None:
    def page(version: str, more: str) -> Answer:
        listed = f"<Version><Key>k</Key><VersionId>{version}</VersionId></Version>"
        after = f"<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>{version}</NextVersionIdMarker>"
        inner = f"{listed}<IsTruncated>{more}</IsTruncated>{after * (more == 'true')}"
        return Answer(f"<ListVersionsResult>{inner}</ListVersionsResult>")

    server.say("GET", page("v1", "true"), page("v2", "false"))
    found = api.pages("s3", "ListObjectVersions", "Versions", Bucket="artifacts")
    assert [version["VersionId"] for version in found] == ["v1", "v2"]
    assert "key-marker=k" in server.requests[-1].path
    assert "version-id-marker=v1" in server.requests[-1].path


# -- the limiter


def paced(limiter: Limiter, clock: Clock, action: str, count: int) -> float:
    """Seconds until the last of `count` calls may be made."""
    return max(limiter.take(action) for _ in range(count))


def test_bucket_gives_nine_tenths_at_once_and_then_its_refill(clock: Clock) -> None:
    limiter = Limiter(clock.monotonic)
    assert [limiter.take("RunInstances") for _ in range(4)] == [0.0] * 4  # 5 at once, 2 a second are published
    assert limiter.take("RunInstances") == pytest.approx(0.5 / 1.8)
    assert limiter.take("RunInstances") == pytest.approx(1.5 / 1.8)


def test_bucket_fills_with_time_and_not_beyond_its_size(clock: Clock) -> None:
    limiter = Limiter(clock.monotonic)
    paced(limiter, clock, "RunInstances", 20)
    clock.now += 3600
    assert [limiter.take("RunInstances") for _ in range(4)] == [0.0] * 4
    assert limiter.take("RunInstances") > 0


def test_actions_have_buckets_of_their_own(clock: Clock) -> None:
    limiter = Limiter(clock.monotonic)
    paced(limiter, clock, "RunInstances", 50)
    assert limiter.take("TerminateInstances") == 0.0
    assert limiter.take("DescribeInstances") == 0.0
    paced(limiter, clock, "DescribeInstances", 500)
    assert limiter.take("DescribeSubnets") == 0.0


def rate(limiter: Limiter, action: str = "RunInstances") -> float:
    """Calls a second, from an empty bucket."""
    limiter.take(action, 100)
    earlier = limiter.take(action)
    return 1 / (limiter.take(action) - earlier)


def test_refusal_halves_the_rate_once_a_second_and_quiet_gives_it_back(clock: Clock) -> None:
    limiter = Limiter(clock.monotonic)
    limiter.refused("RunInstances")
    assert rate(limiter) == pytest.approx(0.9)
    limiter.refused("RunInstances")
    assert rate(limiter) == pytest.approx(0.9), "the same event halved it again"
    clock.now += 2.0
    limiter.refused("RunInstances")
    assert rate(limiter) == pytest.approx((0.9 + 2 * 0.1) / 2)
    clock.now += 1000.0
    assert rate(limiter) == pytest.approx(1.8)


def test_refusal_empties_the_bucket(clock: Clock) -> None:
    limiter = Limiter(clock.monotonic)
    limiter.refused("RunInstances")
    assert limiter.take("RunInstances") == pytest.approx(1 / 0.9)


def test_rate_never_falls_below_a_tenth(clock: Clock) -> None:
    limiter = Limiter(clock.monotonic)
    for _ in range(40):
        clock.now += 1.0
        limiter.refused("RunInstances")
    assert rate(limiter) == pytest.approx(0.2)


def test_throttled_call_slows_every_thread_down(server: Loopback, api: Api) -> None:
    server.say("CreateTags", ec2_error("RequestLimitExceeded", 503), ec2("CreateTags"))
    api.call("ec2", "CreateTags", Resources=["i-1"], Tags=[])
    assert rate(api.clients.limiter, "CreateTags") < 5.5  # of 9


def test_calls_are_held_back_before_they_are_made(server: Loopback, api: Api, clock: Clock) -> None:
    """At the published rate not one is refused."""
    tokens, at, refused = 5.0, clock.now, 0
    answer = server.answer

    def count(request: Any) -> Answer:
        nonlocal tokens, at, refused
        if request.action == "RunInstances":
            tokens, at = min(5.0, tokens + (clock.now - at) * 2), clock.now
            refused += tokens < 1
            tokens -= 1
        return answer(request)

    server.answer = count  # type: ignore[method-assign]
    server.say("RunInstances", ec2("RunInstances"))
    for _ in range(25):
        api.call("ec2", "RunInstances", MinCount=1, MaxCount=1)
    assert refused == 0


# -- words


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("RequestLimitExceeded", 503, "throttled"),
        ("TooManyRequestsException", 429, "throttled"),
        ("SlowDown", 503, "throttled"),
        ("InternalError", 500, "transient"),
        ("Whatever", 502, "transient"),
        ("InvalidVpcID.NotFound", 400, "absent"),
        ("NatGatewayNotFound", 400, "absent"),
        ("LoadBalancerNotFound", 400, "absent"),
        ("InvalidLaunchTemplateName.NotFoundException", 400, "absent"),
        ("NoSuchEntity", 404, "absent"),
        ("NoSuchBucket", 404, "absent"),
        ("404", 404, "absent"),
        ("403", 403, "denied"),
        ("ServerSideEncryptionConfigurationNotFoundError", 404, "absent"),
        ("ObjectLockConfigurationNotFoundError", 404, "absent"),
        ("Gateway.NotAttached", 400, "absent"),
        ("InvalidPermission.Duplicate", 400, "exists"),
        ("InvalidSubnet.Conflict", 400, "exists"),
        ("RouteAlreadyExists", 400, "exists"),
        ("EntityAlreadyExists", 409, "exists"),
        ("InvalidLaunchTemplateName.AlreadyExistsException", 400, "exists"),
        ("DuplicateLoadBalancerName", 400, "exists"),
        ("DuplicateTargetGroupName", 400, "exists"),
        ("DependencyViolation", 400, "in_use"),
        ("InvalidGroup.InUse", 400, "in_use"),
        ("ResourceInUse", 400, "in_use"),
        ("InsufficientInstanceCapacity", 500, "capacity"),
        ("VcpuLimitExceeded", 400, "quota"),
        ("AddressLimitExceeded", 400, "quota"),
        ("TooManyLoadBalancers", 400, "quota"),
        ("UnauthorizedOperation", 403, "denied"),
        ("ExpiredToken", 400, "expired"),
        ("InvalidParameterValue", 400, "other"),
    ],
)
def test_codes_are_sorted_by_what_can_be_done(code: str, status: int, kind: str) -> None:
    assert CloudError("A", code, "", status=status).kind == kind


def test_refused_verb_says_action_code_and_message() -> None:
    with pytest.raises(Refused, match="CreateVpc: VpcLimitExceeded: no more"), failures.told():
        raise CloudError("CreateVpc", "VpcLimitExceeded", "no more")


def test_tags_are_what_every_service_takes(ctx: Context) -> None:
    ctx.urn = "urn:pulumi:eu::aifactory::aifactory:index:Region$aifactory:aws:Network::" + "n" * 300
    made = tags.of(ctx, "eu", "t0", "subnet/a", Name="eu-a")
    assert made[tags.PART] == "subnet/a"
    assert made["Name"] == "eu-a"
    assert len(made[tags.URN]) == 256
    ctx.urn = "urn:pulumi:eu::aifactory::aifactory:index:Region$aifactory:aws:Network::network"
    assert tags.of(ctx, "eu", "t0")[tags.URN] == ctx.urn.replace("$", "/")
    assert tags.PART not in tags.of(ctx, "eu", "t0")
