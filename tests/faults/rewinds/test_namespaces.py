"""An archive is one namespace's alone."""

from __future__ import annotations

import pytest
import redis

from support.command import Torpor
from support.rewinding import S, chat, object_names, said, say
from torpor import SessionArchive
from torpor.worker.archive import names, ownership
from torpor.worker.archive.stores.url import open_archive
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.services import Services
from torpor.worker.deployment.settings import load_settings
from torpor.worker.errors import ArchiveTaken
from torpor.worker.sleep.opening import OpenDeployment

# Whose archive it is


def test_an_archive_is_one_namespace_s_alone(services: Services) -> None:
    """Also for older versions, which know only the namespace."""
    before = object_names(services.archive)
    for same in (services.archive, open_archive(services.archive.url)):
        ownership.take(same, "torpor")
        with pytest.raises(ArchiveTaken, match="another namespace than 'other'"):
            ownership.take(same, "other")
        with pytest.raises(ArchiveTaken, match="another namespace than 'other'"):
            SessionArchive(same.url).check("other")
        SessionArchive(same.url).check("torpor")
    assert object_names(services.archive) == before == [names.DEPLOYMENT, names.identity_name(1)]


def test_commands_and_tasks_refuse_another_namespace_s_archive_and_keep_its_sessions_in_redis(
    client: redis.Redis,
    services: Services,
    torpor: Torpor,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say(client, "ours")
    assert torpor("archive", S).code == 0
    before = object_names(services.archive)
    say(client, "theirs", namespace="other")
    for refused in (("archive", S), ("restore", S), ("purge", "--session", S, "--yes")):
        assert torpor("--namespace", "other", *refused).code == 2
    for name, value in (variables | {"NAMESPACE": "other"}).items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ArchiveTaken):
        OpenDeployment(load_settings()).services()
    assert object_names(services.archive) == before
    assert [message.content for message in chat(client, namespace="other").messages] == ["theirs"]
    monkeypatch.delenv(PREFIX + "NAMESPACE")
    assert torpor("restore", S).code == 0
    assert said(client) == ["ours"]
