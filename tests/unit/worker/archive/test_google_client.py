"""The private attributes of google-cloud-storage that we use: all in one file, and still there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

WORKER = Path(__file__).parents[4] / "worker"
STORES = WORKER / "archive" / "stores"
# Each private attribute, and an object of the library that must have it.
PRIVATE = {
    "_http": "client",
    "_auth_request_session": "http",
    "_connection": "client",
    "_credentials": "client",
    "_bucket_metadata_cache": "client",
    "_properties": "bucket",
    "_predicate": "retry",
    "_get_writable_metadata": "blob",
    # Not private, but the library calls it on its own.
    "delete": "blob",
}


def private_names(path: Path) -> set[str]:
    """The private attributes of other objects that a file uses, and the private methods that it overrides."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    overridden = [each for each in ast.walk(tree) if isinstance(each, ast.ClassDef) and each.name == "DescribedBlob"]
    found |= {
        each.name for one in overridden for each in one.body if isinstance(each, ast.FunctionDef) if each.name[1] != "_"
    }
    return found - {"_replace", "_exit"}  # of a NamedTuple and of os: documented


@pytest.fixture
def client() -> storage.Client:
    return storage.Client(project="p", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("attribute", PRIVATE)
def test_the_library_has_what_is_used(client: storage.Client, attribute: str) -> None:
    bucket = client.bucket("b")
    those = {"client": client, "bucket": bucket, "blob": bucket.blob("o"), "retry": DEFAULT_RETRY, "http": client._http}
    assert hasattr(those[PRIVATE[attribute]], attribute)


def test_the_connection_of_the_library_tells_server_and_agent(client: storage.Client) -> None:
    connection = client._connection
    assert "gcloud-python" in connection.user_agent
    assert connection.get_api_base_url_for_mtls().startswith("http")
    assert connection.API_BASE_URL.startswith("http")


@pytest.mark.parametrize("path", sorted(WORKER.rglob("*.py")), ids=lambda path: str(path.relative_to(WORKER)))
def test_one_file_uses_private_attributes_of_libraries(path: Path) -> None:
    assert private_names(path) == (set(PRIVATE) if path == STORES / "google_client.py" else set())
