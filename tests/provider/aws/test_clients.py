"""Guarded clients. Real: botocore with its endpoint data, HTTP to servers on loopback. No cloud is spoken to."""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aifactory import catalog
from aifactory.provider.aws import clients as guarded
from aifactory.provider.aws.clients import Clients, OffList
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.sessions import TOKEN_FILE, Bare
from aifactory.provider.resource import Refused
from botocore.awsrequest import AWSResponse
from botocore.loaders import Loader
from botocore.session import Session

from tests.provider.aws.loopback import ACCOUNT, KEYS, SERVICES, Answer, Loopback, serving

GOLDEN = Path(__file__).parents[2] / "golden" / "aws"
STACKS = Path(__file__).parents[3] / "stacks"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with serving() as running:
        yield running


@pytest.fixture
def trap() -> Iterator[Loopback]:
    """A host that nobody has any business with."""
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def no_ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def real(key: str = "aws-eusc", region: str = "eusc-de-east-1", **more: Any) -> CloudInput:
    """A cloud whose hosts the library knows."""
    return CloudInput(key, region, ACCOUNT, **{"env_prefix": "T_", **more})


def refusal(cloud: CloudInput, service: str = "ec2") -> str:
    with pytest.raises(Refused) as caught:
        Clients(cloud, KEYS).client(service)
    return str(caught.value)


def answered(status: int, body: str = "", **headers: str) -> AWSResponse:
    class Raw:
        def stream(self, *_: Any) -> Iterator[bytes]:
            yield body.encode()

    return AWSResponse("", status, {name.replace("_", "-"): value for name, value in headers.items()}, Raw())


# -- the host list (LOC-05)


@pytest.mark.parametrize("service", SERVICES)
def test_request_to_another_host_is_stopped_before_a_byte_leaves(
    service: str, server: Loopback, trap: Loopback
) -> None:
    client = Clients(server.cloud(), KEYS).client(service)
    client.meta.events.register_last("before-send", lambda request, **_: None)
    client.meta.events.register("request-created", lambda request, **_: setattr(request, "url", trap.url + "/"))
    with pytest.raises(OffList, match=r"\[LOC-05\]") as caught:
        getattr(client, SERVICES[service])()
    assert f"127.0.0.1:{trap.server_port}" in str(caught.value)
    assert f"127.0.0.1:{server.server_port} only" in str(caught.value)
    assert (trap.connections, server.connections) == (0, 0)


def test_without_the_guard_the_same_request_leaves(trap: Loopback) -> None:
    """The test above proves something."""
    session = Session()
    session.set_credentials("a", "b")
    client = session.create_client("ec2", region_name="eu-central-1", endpoint_url="http://127.0.0.1:1")
    client.meta.events.register("request-created", lambda request, **_: setattr(request, "url", trap.url + "/"))
    client.describe_vpcs()
    assert trap.connections == 1


@pytest.mark.parametrize(
    ("service", "url", "passes"),
    [
        ("ec2", "https://ec2.eusc-de-east-1.amazonaws.eu/", True),
        ("ec2", "http://ec2.eusc-de-east-1.amazonaws.eu/", False),
        ("ec2", "https://ec2.eusc-de-east-1.amazonaws.eu:8443/", False),
        ("ec2", "https://x.ec2.eusc-de-east-1.amazonaws.eu/", False),
        ("ec2", "https://ec2.eusc-de-east-1.amazonaws.eu.evil.example/", False),
        ("ec2", "https://ec2.us-east-1.amazonaws.com/", False),
        ("s3", "https://artifacts.s3.eusc-de-east-1.amazonaws.eu/key", True),
        ("s3", "https://evils3.eusc-de-east-1.amazonaws.eu/key", False),
        ("s3", "https://artifacts.s3.us-east-1.amazonaws.com/key", False),
    ],
)
def test_client_speaks_to_its_own_host_only_and_s3_to_buckets_below_it(service: str, url: str, passes: bool) -> None:
    asked: list[str] = []

    def instead(request: Any, **_: Any) -> AWSResponse:
        asked.append(request.url)
        return answered(200, "<Response/>")

    client = Clients(real(), KEYS).client(service)
    client.meta.events.register("request-created", lambda request, **_: setattr(request, "url", url))
    client.meta.events.register("before-send", instead)
    if passes:
        getattr(client, SERVICES[service])()
    else:
        with pytest.raises(OffList):
            getattr(client, SERVICES[service])()
    assert asked == [url] * passes


def test_bucket_is_a_name_below_the_host_of_a_cloud_and_a_path_of_an_endpoint(server: Loopback) -> None:
    asked: list[str] = []

    def instead(request: Any, **_: Any) -> AWSResponse:
        asked.append(request.url)
        return answered(200)

    client = Clients(real(), KEYS).client("s3")
    client.meta.events.register("before-send", instead)
    client.head_bucket(Bucket="eu-artifacts")
    assert asked == ["https://eu-artifacts.s3.eusc-de-east-1.amazonaws.eu/"]
    Clients(server.cloud(), KEYS).client("s3").head_bucket(Bucket="eu-artifacts")
    assert server.requests[-1].path == "/eu-artifacts"


# -- S3 says that the bucket is elsewhere (LOC-04)

PERMANENT = "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.us-east-1.amazonaws.com</Endpoint></Error>"
MALFORMED = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-east-1</Region></Error>"
REGION = {"x-amz-bucket-region": "us-east-1"}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(PERMANENT, 301, REGION),
        Answer(PERMANENT, 301),
        Answer("", 302, REGION),
        Answer("", 307, {"Location": "https://b.s3.us-east-1.amazonaws.com/key"}),
        Answer("", 308),
        Answer(MALFORMED, 400),
        Answer("<Error><Code>AccessDenied</Code></Error>", 403, REGION),
    ],
)
def test_s3_redirect_is_refused_after_one_request(answer: Answer, server: Loopback) -> None:
    server.say("PUT", answer)
    client = Clients(server.cloud(), KEYS).client("s3")
    with pytest.raises(OffList, match=r"\[LOC-04\]"):
        client.put_object(Bucket="b", Key="key", Body=b"weights")
    assert [request.method for request in server.requests] == ["PUT"]


def test_s3_redirect_on_a_head_is_refused_after_one_request(server: Loopback) -> None:
    server.say("HEAD", Answer("", 400, REGION))
    with pytest.raises(OffList, match=r"\[LOC-04\].*us-east-1"):
        Clients(server.cloud(), KEYS).client("s3").head_bucket(Bucket="b")
    assert len(server.requests) == 1


def test_answer_about_our_own_region_is_no_redirect(server: Loopback) -> None:
    server.say("HEAD", Answer("", 404, {"x-amz-bucket-region": "eusc-de-east-1"}))
    client = Clients(server.cloud(), KEYS).client("s3")
    with pytest.raises(client.exceptions.ClientError, match="404"):
        client.head_bucket(Bucket="b")


def test_second_wall_behind_the_redirect_rule_is_the_host_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule botocore signs the body again for commercial AWS; the host list stops it."""
    asked: list[str] = []

    def instead(request: Any, **_: Any) -> AWSResponse:
        asked.append(str(urlsplit(request.url).hostname))
        return answered(301, PERMANENT, x_amz_bucket_region="us-east-1")

    monkeypatch.setattr(guarded._NoRedirect, "__call__", lambda self, response, **_: None)
    client = Clients(real(), KEYS).client("s3")
    client.meta.events.register("before-send", instead)
    with pytest.raises(OffList, match=r"\[LOC-05\].*us-east-1.amazonaws.com"):
        client.put_object(Bucket="artifacts", Key="key", Body=b"weights")
    assert asked == ["artifacts.s3.eusc-de-east-1.amazonaws.eu"]


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "s3"])
def test_redirect_of_any_other_service_is_not_followed(service: str, server: Loopback, trap: Loopback) -> None:
    moved = Answer("<Response/>", 301, {"Location": trap.url})
    for name in ("POST", "GET", "GetCallerIdentity"):
        server.say(name, moved)
    client = Clients(server.cloud(), KEYS).client(service)
    with pytest.raises(client.exceptions.ClientError):
        getattr(client, SERVICES[service])()
    assert trap.connections == 0
    assert len(server.requests) == 1


# -- what lies about on the machine


@pytest.fixture
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trap: Loopback) -> Loopback:
    """An environment and files that all point to `trap`, with keys of somebody else."""
    config = tmp_path / "config"
    config.write_text(
        f"[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key=x\nregion=us-east-1\nendpoint_url={trap.url}\n"
        "use_fips_endpoint=true\nuse_dualstack_endpoint=true\n"
        "s3 =\n  addressing_style = path\n  use_accelerate_endpoint = true\n"
        f"[profile sovereign]\naws_access_key_id=AKIAPROFILE\naws_secret_access_key=x\nregion=us-east-1\n"
        f"endpoint_url={trap.url}\nservices=odd\nuse_fips_endpoint=true\n"
        f"[services odd]\nec2 =\n  endpoint_url = {trap.url}\n"
        f"[profile empty]\nregion=us-east-1\n"
        "[profile role]\nrole_arn=arn:aws-eusc:iam::123456789012:role/x\nsource_profile=sovereign\nregion=us-east-1\n"
        "[profile variables]\nrole_arn=arn:aws-eusc:iam::123456789012:role/x\ncredential_source=Environment\n"
        "[profile metadata]\nrole_arn=arn:aws-eusc:iam::123456789012:role/x\ncredential_source=Ec2InstanceMetadata\n"
        "[profile second]\nrole_arn=arn:aws-eusc:iam::123456789012:role/x\nsource_profile=sovereign\nmfa_serial=m\n"
    )
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default\nno configuration at all")
    models = tmp_path / "models" / "ec2" / "2016-11-15"
    models.mkdir(parents=True)
    (models / "endpoint-rule-set-1.json").write_text("{}")
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", str(tmp_path / "models"))
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    trap.datagrams = listener  # type: ignore[attr-defined]
    values = {
        "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_PROFILE": "nobody",
        "AWS_DEFAULT_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": "AKIAAMBIENT", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_SESSION_TOKEN": "x", "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": trap.url, "AWS_ENDPOINT_URL_EC2": trap.url, "AWS_ENDPOINT_URL_S3": trap.url,
        "AWS_ENDPOINT_URL_STS": trap.url, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_DEFAULTS_MODE": "auto",
        "AWS_DATA_PATH": str(tmp_path / "models"), "AWS_CA_BUNDLE": "/nowhere", "AWS_RETRY_MODE": "adaptive",
        "AWS_MAX_ATTEMPTS": "7", "AWS_EC2_METADATA_SERVICE_ENDPOINT": trap.url,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": trap.url, "AWS_WEB_IDENTITY_TOKEN_FILE": str(config),
        "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/ambient", "AWS_CSM_ENABLED": "true",
        "AWS_CSM_HOST": "127.0.0.1", "AWS_CSM_PORT": str(listener.getsockname()[1]), "HTTP_PROXY": trap.url,
        "http_proxy": trap.url, "HTTPS_PROXY": trap.url, "https_proxy": trap.url, "ALL_PROXY": trap.url,
        "AWS_STS_REGIONAL_ENDPOINTS": "legacy", "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "legacy",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return trap


def caught_nothing(trap: Loopback) -> bool:
    with pytest.raises(BlockingIOError):
        trap.datagrams.recv(1)  # type: ignore[attr-defined]
    return trap.connections == 0


@pytest.mark.parametrize("service", SERVICES)
def test_environment_files_and_metadata_are_ignored(service: str, server: Loopback, ambient: Loopback) -> None:
    client = Clients(server.cloud(), KEYS).client(service)
    getattr(client, SERVICES[service])()
    assert [request.key_id for request in server.requests] == ["AKIAOURS"]
    assert "X-Amz-Security-Token" not in server.requests[0].headers
    assert caught_nothing(ambient)


def test_hosts_of_a_sovereign_region_are_its_own_whatever_the_environment_says(ambient: Loopback) -> None:
    clients = Clients(real(), KEYS)
    for service in SERVICES:
        name = {"elbv2": "elasticloadbalancing", "service-quotas": "servicequotas"}.get(service, service)
        assert clients.host(service) == f"{name}.eusc-de-east-1.amazonaws.eu"
        assert clients.client(service).meta.endpoint_url.startswith("https://")


def test_answer_is_not_asked_for_twice_by_the_library(server: Loopback, ambient: Loopback) -> None:
    """api.py repeats, which hears cancel and looks first."""
    server.say("DescribeVpcs", Answer("<Response/>", 503))
    client = Clients(server.cloud(), KEYS).client("ec2")
    with pytest.raises(client.exceptions.ClientError):
        client.describe_vpcs()
    assert server.count("DescribeVpcs") == 1


def test_call_in_flight_ends_within_half_a_minute(server: Loopback) -> None:
    config = Clients(server.cloud(), KEYS).client("ec2").meta.config
    assert config.connect_timeout + config.read_timeout < 30


def test_plain_session_would_obey_the_environment(ambient: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above prove something: the same variables send a plain client into the trap."""
    monkeypatch.delenv("AWS_DATA_PATH")  # with these models, a plain session does not even come so far
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", "/nowhere")
    client = Session(profile="sovereign").create_client("ec2", region_name="eusc-de-east-1", verify=False)
    client.describe_vpcs()
    assert ambient.connections > 0


# -- whose keys


def test_profile_gives_its_keys_and_nothing_else(server: Loopback, ambient: Loopback) -> None:
    clients = Clients(server.cloud(env_prefix="", profile="sovereign"))
    clients.client("ec2").describe_vpcs()
    assert [request.key_id for request in server.requests] == ["AKIAPROFILE"]
    known = Clients(real(env_prefix="", profile="sovereign"))
    assert known.host("ec2") == "ec2.eusc-de-east-1.amazonaws.eu"
    assert caught_nothing(ambient)


def test_profile_with_a_role_asks_the_clouds_own_sts(server: Loopback, ambient: Loopback) -> None:
    server.say("AssumeRole", assumed("AssumeRole", "AKIAROLE"))
    Clients(server.cloud(env_prefix="", profile="role")).client("ec2").describe_vpcs()
    assert [(r.action, r.key_id) for r in server.requests] == [
        ("AssumeRole", "AKIAPROFILE"),
        ("DescribeVpcs", "AKIAROLE"),
    ]
    assert caught_nothing(ambient)


def test_profile_with_single_sign_on_of_another_region_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "sso"
    config.write_text(
        "[profile p]\nsso_start_url=https://x.example/start\nsso_region=us-east-1\nsso_account_id=1\nsso_role_name=r\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    cloud = real(env_prefix="", profile="p")
    from aifactory.provider.aws.sessions import _ProfileSession

    session = _ProfileSession("p", cloud.region, Clients(cloud)._guarded)
    with pytest.raises(Refused, match=r"\[LOC-0[27]\] sso"):
        session.create_client("sso", region_name="us-east-1")


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ("nobody", "there is no profile nobody; profiles here: default, sovereign, empty"),
        ("empty", "profile empty holds no keys"),
        ("variables", "profile variables: "),
        ("metadata", "profile metadata: "),
        ("second", "asks for a code of a second factor"),
    ],
)
def test_profile_without_keys_of_its_own_is_refused(
    profile: str, says: str, server: Loopback, ambient: Loopback
) -> None:
    cloud = server.cloud(env_prefix="", profile=profile)
    with pytest.raises(Refused) as caught:
        Clients(cloud).client("ec2").describe_vpcs()
    assert says in str(caught.value)
    assert server.requests == []
    assert caught_nothing(ambient)


@pytest.mark.parametrize("missing", sorted(KEYS))
def test_missing_variable_is_named(missing: str) -> None:
    with pytest.raises(Refused, match=rf"credentials: {missing} is not set"):
        Clients(real(), {name: value for name, value in KEYS.items() if name != missing}).client("ec2")


def test_session_token_goes_along(server: Loopback) -> None:
    Clients(server.cloud(), {**KEYS, "T_SESSION_TOKEN": "token"}).client("ec2").describe_vpcs()
    assert server.requests[0].headers["X-Amz-Security-Token"] == "token"


def test_no_source_of_keys_is_refused_and_nothing_is_looked_for(server: Loopback, ambient: Loopback) -> None:
    assert "names no profile" in refusal(server.cloud(env_prefix=""))
    assert caught_nothing(ambient)


def assumed(action: str, key: str, expires: str = "2099-01-01T00:00:00Z") -> Answer:
    return Answer(
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>'
        f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        f"<Expiration>{expires}</Expiration></Credentials></{action}Result></{action}Response>"
    )


def test_role_is_assumed_with_the_token_of_the_job_and_renewed(
    server: Loopback, ambient: Loopback, tmp_path: Path
) -> None:
    action, token = "AssumeRoleWithWebIdentity", tmp_path / "token"
    token.write_text("first\n")
    server.say(action, assumed(action, "AKIAONE", "2000-01-01T00:00:00Z"), assumed(action, "AKIATWO"))
    cloud = server.cloud(env_prefix="", role_arn="arn:aws-eusc:iam::123456789012:role/ci")
    client = Clients(cloud, {TOKEN_FILE: str(token)}).client("ec2")
    with pytest.raises(Exception, match="expired"):
        client.describe_vpcs()
    token.write_text("second\n")
    client.describe_vpcs()
    assert [(r.action, r.key_id) for r in server.requests] == [(action, ""), (action, ""), ("DescribeVpcs", "AKIATWO")]
    assert b"WebIdentityToken=first&" in server.requests[0].body + b"&"
    assert b"WebIdentityToken=second&" in server.requests[1].body + b"&"
    assert caught_nothing(ambient)


def test_role_without_a_token_is_refused(server: Loopback) -> None:
    assert TOKEN_FILE in refusal(server.cloud(env_prefix="", role_arn="arn:aws-eusc:iam::123456789012:role/ci"))
    assert server.requests == []


# -- regions that are not the cloud's (LOC-06)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("key", "region"),
    [
        ("aws", "fr-par"),
        ("aws", "eu-foo-9"),
        ("aws", "kr-standard"),
        ("aws-eusc", "eusc-xx-1"),
        ("aws-eusc", "eusc-de-west-1"),
        ("aws-eusc", "us-east-1"),
        ("outscale", "eu-west-2"),
        ("outscale", "cloudgouv-eu-west-1"),
    ],
)
def test_region_that_is_not_listed_needs_an_endpoint(key: str, region: str, service: str) -> None:
    text = refusal(real(key, region), service)
    assert text.startswith(f"[LOC-06] {service}: {catalog.clouds()[key].name}")
    assert f"provider.endpoints: {{{service}: https://" in text


def test_listed_regions_are_those_that_the_library_lists_by_name() -> None:
    """A region that matches its pattern only is a guess, and not listed."""
    session = Bare()
    for card in catalog.clouds().values():
        if card.provider == "aws" and not card.endpoints_required:
            known = set(session.get_available_regions("ec2", card.partition))
            assert set(card.regions) <= known


# -- explicit endpoints (LOC-02, LOC-07)


@pytest.mark.parametrize(
    ("key", "region", "url", "rule"),
    [
        ("aws-eusc", "eusc-de-east-1", "https://ec2.eusc-de-east-1.amazonaws.com", "LOC-02"),
        ("aws-eusc", "eusc-de-east-1", "https://ec2.eusc-de-east-1.notamazonaws.eu", "LOC-02"),
        ("aws-eusc", "eusc-de-east-1", "https://amazonaws.eu", "LOC-02"),
        ("aws-eusc", "eusc-de-east-1", "https://ec2.eusc-de-east-1.amazonaws.eu.evil.example", "LOC-02"),
        ("aws-eusc", "eusc-de-east-1", "https://192.0.2.1", "LOC-02"),
        ("aws-cn", "cn-north-1", "https://ec2.cn-north-1.amazonaws.com", "LOC-02"),
        ("outscale", "eu-west-2", "https://ec2.eu-west-2.amazonaws.com", "LOC-02"),
        ("aws-us-gov", "us-gov-west-1", "https://ec2.us-east-1.amazonaws.com", "LOC-07"),
        ("outscale", "eu-west-2", "https://fcu.us-east-2.outscale.com", "LOC-07"),
        ("aws", "eu-west-1", "https://ec2.eu-west-12.amazonaws.com", "LOC-07"),
    ],
)
def test_endpoint_of_another_cloud_or_region_is_refused(key: str, region: str, url: str, rule: str) -> None:
    assert refusal(real(key, region, endpoints={"ec2": url})).startswith(f"[{rule}] ec2: ")


@pytest.mark.parametrize(
    ("key", "region", "url"),
    [
        ("outscale", "eu-west-2", "https://fcu.eu-west-2.outscale.com"),
        ("aws-eusc", "eusc-de-east-1", "https://vpce-1.ec2.eusc-de-east-1.vpce.amazonaws.eu"),
    ],
)
def test_endpoint_of_the_cloud_and_region_is_taken(key: str, region: str, url: str) -> None:
    assert f"https://{Clients(real(key, region, endpoints={'ec2': url}), KEYS).host('ec2')}" == url


@pytest.mark.parametrize(
    "url",
    [
        "http://ec2.eusc-de-east-1.amazonaws.eu",
        "http://127.0.0.2:5000",
        "http://10.0.0.1",
        "http://localhost.evil.example",
    ],
)
def test_plain_http_is_for_loopback_only(url: str) -> None:
    assert "plain http is for this machine's loopback only" in refusal(real(endpoints={"ec2": url}))


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "ftp://127.0.0.1", "https://", "https://user:word@127.0.0.1"])
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    assert "is not an endpoint" in refusal(real(endpoints={"ec2": url}))


def test_local_clouds_have_no_api() -> None:
    assert refusal(real("local", "here", endpoints={"ec2": "https://ec2.example"})).startswith("[LOC-02]")


# -- hosts outside the region (LOC-07)


def test_services_outside_eu_central_1_are_refused_by_name() -> None:
    """Golden: the clients of the installed botocore whose host is bound to no region, or lies in another one."""
    clients = Clients(real("aws", "eu-central-1"), KEYS)
    refused = []
    for service in Bare().get_available_services():
        try:
            host = clients._guarded(service).meta.endpoint_url
        except Refused as error:
            rule, _, rest = str(error).partition("] ")
            refused.append(f"{rule}] {rest.split(' ')[1]} {service}")
        else:
            assert ".eu-central-1." in f"{host}."
    assert "\n".join([*sorted(refused), ""]) == (GOLDEN / "off-region.eu-central-1.txt").read_text()


def test_waived_service_outside_the_region_is_taken_and_no_other() -> None:
    cloud = real("aws", "eu-central-1", off_region=("iam",))
    assert Clients(cloud, KEYS).host("iam") == "iam.amazonaws.com"
    assert refusal(cloud, "route53").startswith("[LOC-07] route53: route53.amazonaws.com ")


def test_global_services_of_the_sovereign_cloud_are_inside_it() -> None:
    assert Clients(real(), KEYS).host("iam") == "iam.eusc-de-east-1.amazonaws.eu"


def test_unknown_service_is_refused() -> None:
    assert refusal(real(), "teleport") == "teleport: the client library knows no such service"


# -- checksums, certificates, account


@pytest.mark.parametrize(
    ("key", "region", "sent"), [("outscale", "eu-west-2", False), ("aws-eusc", "eusc-de-east-1", True)]
)
def test_newer_checksums_go_only_to_clouds_that_take_them(key: str, region: str, sent: bool, server: Loopback) -> None:
    Clients(server.cloud(key, region), KEYS).client("s3").put_object(Bucket="b", Key="k", Body=b"weights")
    headers = {name.lower() for name in server.requests[0].headers}
    assert any(name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer")) for name in headers) == sent


def test_account_of_somebody_else_is_refused(server: Loopback) -> None:
    clients = Clients(server.cloud(), KEYS)
    with pytest.raises(Refused, match=r"\[LOC-02\].*account 999999999999.*123456789012"):
        clients.check_account("999999999999")
    assert not clients.account_known
    clients.check_account(ACCOUNT)
    assert clients.account_known


def test_clouds_that_are_equal_share_their_clients_and_others_do_not() -> None:
    assert guarded.of(real()) is guarded.of(real())
    one, two = {"ec2": "https://ec2.example.eu", "s3": "https://s3.example.eu"}, {}
    two.update(reversed(one.items()))
    assert guarded.of(real(endpoints=one)) is guarded.of(real(endpoints=two))
    assert guarded.of(real()) is not guarded.of(replace(real(), account="000000000000"))


def test_nothing_but_the_factory_makes_clients() -> None:
    allowed = {f"aifactory/provider/aws/{name}.py" for name in ("clients", "sessions", "api")}
    found = set()
    for path in (STACKS / "aifactory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            )  # fmt: skip
            if any(name.split(".")[0] in ("botocore", "boto3") for name in names):
                found.add(str(path.relative_to(STACKS)))
    assert found <= allowed
