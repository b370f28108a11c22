"""The Node program of `examples/node` against a real Torpor: it writes what Python writes, and its sessions wake up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from support.clusters import start_cluster
from support.compose import deployment_of, image
from support.javascript import Node, install
from support.keyspace import raw
from support.paths import ROOT
from support.redis_proxy import Fault, Proxy
from support.servers import RedisServer
from support.sessions import purge_session
from support.signing import signing_settings
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.history.adapters.messages import encode_message
from torpor.history.calls import configuration
from torpor.history.policy import Bounds, Policies, Rule
from torpor.history.protocol import Compression, Expiry, SessionStore
from torpor.worker.deployment.services import Services
from torpor.worker.wake.restore import RestoreOutcome, restore_for_reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# A program in Node refuses a deployment that compresses.
as_plain = pytest.mark.skipif(
    configuration.UNRECORDED is Compression.ZSTD, reason="Node is refused by a deployment that compresses"
)

HOUR = timedelta(hours=1)
REQUEST = bytes.fromhex("00ff386279746573")
SAID: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage('Grüße, "Ann" \u2028\x07 \U0001f600', name="ann"),
    AIMessage("", tool_calls=[{"name": "clock", "args": {"zone": "UTC"}, "id": "1"}]),
    ToolMessage("12:00", tool_call_id="1"),
    ChatMessage(content="approved", role="judge"),
]
TURN = json.dumps([json.loads(encode_message(each)) for each in SAID])
IDS = ["s", "ü", "\U0001f600", "a}b{c", "with: spaces\n", "x" * 1024]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("program"))


@pytest.fixture
def node(program: Path, redis_server: RedisServer) -> Node:
    return Node(program, redis_server)


@pytest.fixture
def archive_url(scratch: Path) -> str:
    return (scratch / "archive").as_uri()


@pytest.fixture
def deployment(services: Services) -> Services:
    """A deployment whose defaults a worker has recorded."""
    services.sessions.configure(idle=2 * HOUR, max_age=24 * HOUR)
    return services


def wait_for_start(deployment: Services) -> None:
    """Wait until a worker has recorded the deployment's defaults."""
    client = deployment.sessions.client
    wait_until(lambda: client.hget("torpor:config", "shards"), 60, "a worker has started")


def look_for(deployment: Services, *session_ids: str) -> None:
    """What a worker does if it is asked for a session that nobody has."""
    for session_id in session_ids:
        assert restore_for_reader(deployment, session_id).outcome is RestoreOutcome.NOTHING


def appending(session_id: str, options: str = '{ owner: "ann", ttl: 3600 }', turn: str = TURN) -> str:
    return f"return torpor.append({json.dumps(session_id)}, {turn}, {options})"


def reading(session_id: str, owner: str | None = "ann") -> str:
    return f"return torpor.read({json.dumps(session_id)}, {json.dumps({'owner': owner} if owner else {})})"


def chat_of(client: redis.Redis, session_id: str) -> MemorystoreChatMessageHistory:
    return MemorystoreChatMessageHistory(client, session_id, 3600, owner="ann")


def stored(deployment: Services, session_id: str) -> dict[str, Any]:
    """All that Redis has of a session, with moments as distances from the last activity."""
    client, session = deployment.sessions.client, session_id.encode()
    keys = deployment.sessions.deployment.keyspace.of(session)
    fields = client.hgetall(keys.metadata(session))
    active = int(fields.pop(b"active"))
    assert int(fields.pop(b"epoch")) // 1000 <= active
    fields[b"seen"] = fields[b"seen"][:8], len(fields[b"seen"])  # a request, and its moment
    return {
        "messages": client.lrange(keys.messages(session), 0, -1),
        "fields": fields,
        "due in": client.zscore(keys.due, session) - active,
        "its owner's": client.sismember(keys.owner(b"ann"), session_id),
    }


@as_plain
def test_node_writes_the_bytes_and_fields_that_python_writes(
    node: Node, deployment: Services, client: redis.Redis
) -> None:
    look_for(deployment, "python's", "node's")
    elements = [encode_message(each) for each in SAID]
    options: dict[str, Any] = {"expiry": Expiry(idle=HOUR), "owner": "ann", "request": REQUEST, "only_known": True}
    assert deployment.sessions.append("python's", elements, **options) == len(SAID)
    request = f'Buffer.from("{REQUEST.hex()}", "hex")'
    assert node.run(appending("node's", f'{{ owner: "ann", ttl: 3600, request: {request} }}')) == len(SAID)
    assert stored(deployment, "node's") == stored(deployment, "python's")
    assert stored(deployment, "node's")["fields"][b"seen"] == (REQUEST, 10)
    assert deployment.sessions.append("node's", elements, **options) == len(SAID), "it is the same request"
    assert chat_of(client, "node's").messages == SAID
    assert node.run(reading("python's")) == node.run(reading("node's")) == json.loads(TURN)


def test_node_finds_the_keys_of_any_session_id(node: Node, deployment: Services, client: redis.Redis) -> None:
    look_for(deployment, *IDS)
    for session_id in IDS:
        chat_of(client, session_id).add_messages(SAID)
    turn = [{"type": "human", "data": {"content": "more"}}]
    codes = [appending(session_id, '{ owner: "ann" }', json.dumps(turn)) for session_id in IDS]
    assert node.run_each(codes) == [len(SAID) + 1] * len(IDS)
    for session_id in IDS:
        assert [each.content for each in chat_of(client, session_id).messages[-2:]] == ["approved", "more"]


@as_plain
def test_node_reads_a_long_session_page_by_page(node: Node, deployment: Services) -> None:
    look_for(deployment, "long")
    said = [{"type": "human", "data": {"content": f"{number} {'x' * 2_000}"}} for number in range(2_500)]
    deployment.sessions.append("long", [json.dumps(each).encode() for each in said], owner="ann")
    assert node.run(reading("long")) == said


@pytest.mark.single_node(reason="the proxy stands before one node")
def test_a_turn_of_node_whose_reply_was_lost_is_written_once(
    program: Path, redis_server: RedisServer, deployment: Services, client: redis.Redis
) -> None:
    look_for(deployment, "s")
    left = [Fault.LOSE_REPLY, Fault.HALF_REPLY, Fault.CUT_BEFORE]
    with Proxy(redis_server.port) as proxy:
        proxy.plan = lambda name: left.pop() if left and name == "append" else None
        where = (
            proxy.url
            if redis_server.user is None
            else redis_server.url.replace(str(redis_server.port), str(proxy.port))
        )
        assert Node(program, redis_server, {"REDIS_URL": where}).run(appending("s")) == len(SAID)
        assert proxy.commands.count("append") == 4
    assert chat_of(client, "s").messages == SAID


# Refusals


def refusals(node: Node, *codes: str) -> list[str]:
    return [each["refused"] for each in node.run_each(codes)]


def test_node_refuses_a_deployment_that_nobody_has_used(node: Node, client: redis.Redis) -> None:
    assert node.run(reading("s"))["refused"] == "unused"


def test_node_refuses_a_deployment_with_policies(node: Node, deployment: Services, client: redis.Redis) -> None:
    rules = Policies((Rule(session_prefix="s", idle=Bounds(most=HOUR)),))
    deployment.sessions.configure(idle=HOUR, max_age=None, policies=rules)
    before = raw(client, "KEYS", "*")
    assert node.run(appending("s"))["refused"] == "policies"
    assert raw(client, "KEYS", "*") == before
    deployment.sessions.configure(idle=HOUR, max_age=None)
    look_for(deployment, "s")
    assert node.run(appending("s")) == len(SAID), "there are none any more"


def test_node_refuses_a_deployment_that_compresses_or_has_once(node: Node, deployment: Services) -> None:
    for how in (Compression.ZSTD, Compression.NONE):
        deployment.sessions.configure(idle=HOUR, max_age=None, compression=how)
        assert refusals(node, appending("s"), reading("s")) == ["compression"] * 2


def test_node_that_began_before_refuses_to_read_compressed_messages(
    node: Node, deployment: Services, client: redis.Redis, redis_server: RedisServer
) -> None:
    look_for(deployment, "s")
    deployment.sessions.configure(idle=HOUR, max_age=None, compression=Compression.ZSTD)
    with redis_server.client() as other:
        SessionStore(other).append("s", [encode_message(each) for each in SAID], owner="ann")
    raw(client, "HDEL", "torpor:config", "compression", "dictionary")
    assert refusals(node, reading("s")) == ["compression"]


@as_plain
def test_node_is_refused_by_the_owner_of_a_session(node: Node, deployment: Services) -> None:
    look_for(deployment, "ann's", "nobody's", "new")
    message = [b'{"type":"human","data":{"content":"hi"}}']
    deployment.sessions.append("ann's", message, owner="ann")
    deployment.sessions.append("nobody's", message, owner=None)
    as_another = [reading("ann's", "bob"), reading("ann's", None), appending("ann's", '{ owner: "bob" }')]
    assert refusals(node, *as_another, reading("nobody's"), appending("nobody's")) == ["owner"] * 3 + ["unowned"] * 2
    assert len(node.run(reading("nobody's", None))) == 1
    deployment.sessions.configure(idle=HOUR, max_age=None, require_owner=True)
    refused, written = node.run_each([appending("new", "{}"), appending("new")])
    assert (refused["refused"], written) == ("owner", len(SAID))


def test_node_is_refused_by_a_purged_session_and_by_a_thread(node: Node, deployment: Services) -> None:
    look_for(deployment, "purged", "thread")
    deployment.sessions.append("purged", [b"{}"], owner="ann")
    purge_session(deployment, "purged")
    deployment.sessions.append("thread", [b"\x01a record"], owner="ann")
    assert refusals(node, appending("purged"), appending("thread"), reading("thread")) == ["purged", "kind", "kind"]
    assert node.run(reading("purged")) == []


def test_node_sends_nothing_that_python_would_not_send(node: Node, deployment: Services, client: redis.Redis) -> None:
    wrong = [
        appending(""),
        appending("x" * 1025),
        appending("\ud800"),
        appending("s", '{ owner: "" }'),
        appending("s", "{ ttl: 0.5 }"),
        appending("s", turn="[]"),
        appending("s", turn='[{ type: "human", data: { content: "x".repeat(2 ** 24) } }]'),
    ]
    before = raw(client, "KEYS", "*")
    assert refusals(node, *wrong) == ["RangeError"] * len(wrong)
    assert raw(client, "KEYS", "*") == before


# Sleep


def test_the_page_shows_the_message_that_wakes_a_session(node: Node, deployment: Services) -> None:
    code = """return (await import("./wake.js")).wakeRequest("user-42", "torpor", new Date("2026-01-01T00:00:20Z"))"""
    sent = node.run(code)
    sent_id, tag = sent["headers"]["id"], sent["properties"]["delivery_tag"]
    page = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    [shown] = [
        json.loads(each) for each in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "body_encoding" in each
    ]
    known = {shown["headers"]["id"]: sent_id, shown["properties"]["delivery_tag"]: tag}
    text = json.dumps(shown)
    for theirs, ours in known.items():
        text = text.replace(theirs, ours)
    assert json.loads(text) == sent


@pytest.fixture(params=["one node", "a Cluster"])
def server(
    request: pytest.FixtureRequest, client: redis.Redis, redis_server: RedisServer, tmp_path: Path
) -> Iterator[RedisServer]:
    if request.param == "one node":
        yield redis_server
    else:
        cluster = start_cluster(tmp_path)
        yield cluster
        cluster.stop()


@as_plain
def test_a_session_that_sleeps_is_woken_by_a_worker_that_node_has_asked(
    server: RedisServer, program: Path, archive_url: str, tmp_path: Path
) -> None:
    deployment = deployment_of(server, archive_url)
    node = Node(program, server, {"TTL": "1"})
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_for_start(deployment)
        assert node.chat("s", "ann", "one") == ["2 messages"], "nobody has had this session"
        wait_until(lambda: deployment.sessions.info("s") is None, 60, "it is asleep")
        assert node.chat("s", "ann", "two") == ["human: one", "ai: You said: one", "4 messages"]
        wait_until(lambda: deployment.sessions.info("s") is None, 60, "it is asleep again")
        assert node.run(appending("s", '{ owner: "bob" }'))["refused"] == "owner"
        wait_until(lambda: deployment.sessions.info("s") is None, 60, "it is asleep once more")
        assert node.run(appending("s")) == 4 + len(SAID), "a write wakes it, too"
    log = (tmp_path / "worker.log").read_text()
    assert "ERROR" not in log, log


@as_plain
@pytest.mark.single_node(reason="Celery has no Cluster as its broker, and the processes are the same")
def test_a_worker_that_obeys_signed_tasks_alone_wakes_a_session_for_node(
    client: redis.Redis, redis_server: RedisServer, program: Path, archive_url: str, tmp_path: Path
) -> None:
    deployment = deployment_of(redis_server, archive_url, **signing_settings(tmp_path / "keys", "worker"))
    own = signing_settings(tmp_path / "keys", "Node, of team = 1")
    signing = {"SIGNING_KEY": str(own["signing_key"]), "SIGNING_CERTIFICATE": str(own["signing_certificate"])}
    node = Node(program, redis_server, {"TTL": "1", **signing})
    with image("worker", deployment, tmp_path), image("beat", deployment, tmp_path):
        wait_for_start(deployment)
        assert node.chat("s", "ann", "one") == ["2 messages"]
        wait_until(lambda: deployment.sessions.info("s") is None, 60, "it is asleep")
        assert "did not wake in time" in node.run(reading("s"), wake_seconds=2)["message"], "this one is not signed"
        assert node.chat("s", "ann", "two") == ["human: one", "ai: You said: one", "4 messages"]
