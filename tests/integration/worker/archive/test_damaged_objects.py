"""Objects that are damaged, each in one way: the jobs go on with the others, and doctor names it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from support.command import Torpor
from support.restoring import segments
from torpor.history.protocol import PermanentError
from torpor.worker.archive import names
from torpor.worker.archive.stores.folder_description import description_path
from torpor.worker.deployment.services import Services
from torpor.worker.sleep.attempt import archive_session
from torpor.worker.sleep.outcome import Outcome
from torpor.worker.wake.restore import restore_session

SAID = [b'{"type":"human","data":{"content":"hi"}}']

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("archive_url", ["folder"], indirect=True),
    pytest.mark.timeout(60),
]


def described(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Change the description of an object."""

    def apply(path: Path) -> None:
        description = json.loads(description_path(path).read_bytes())
        changed = change(description)
        description_path(path).write_text(json.dumps(description if changed is None else changed))

    return apply


def metadata(**values: object) -> Callable[[Path], None]:
    return described(lambda description: description["metadata"].update(values))  # type: ignore[attr-defined]


def content(text: bytes) -> Callable[[Path], None]:
    """Replace the description of an object."""

    def apply(path: Path) -> None:
        description_path(path).write_bytes(text)

    return apply


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def link_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def socket_(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # its whole name may be too long for a socket
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def pipe_as_description(path: Path) -> None:
    description_path(path).unlink()
    os.mkfifo(description_path(path))


def link_as_description(path: Path) -> None:
    description_path(path).unlink()
    description_path(path).symlink_to(description_path(path))


def far_future(path: Path) -> None:
    os.utime(path, (2**40, 2**40))


# What is damaged, and whether doctor names it: the last ones harm nobody.
DAMAGE: dict[str, tuple[Callable[[Path], None], bool]] = {
    "a custom time without a zone": (described(lambda d: d.update(custom_time="2024-01-01T00:00:00")), True),
    "a custom time that is no time": (described(lambda d: d.update(custom_time="soon")), True),
    "a custom time that is a number": (described(lambda d: d.update(custom_time=7)), True),
    "a list as metadata": (described(lambda d: d.update(metadata=["session"])), True),
    "a list as description": (described(lambda _: []), True),
    "a hold that is text": (described(lambda d: d.update(held="no")), True),
    "a session that is a number": (metadata(session=7), True),
    "a session with half a character": (metadata(session="\ud800"), True),
    "a base that is no number": (metadata(base="many"), True),
    "a description that is nested too deep": (content(b"[" * 100_000), True),
    "a description that is too large": (content(b" " * 300_000), True),
    "a link loop": (link_to_itself, True),
    "a link out of the archive": (link_elsewhere, True),
    "a pipe": (pipe, True),
    "a socket": (socket_, True),
    "a pipe as description": (pipe_as_description, True),
    "a link loop as description": (link_as_description, True),
    "a last activity without a zone": (metadata(active="2024-01-01T00:00:00"), False),
    "a last activity that is no time": (metadata(active="yesterday"), False),
    "a session of another folder": (metadata(session="x" * 2_000), True),
    "a file of the year 36812": (far_future, False),
}


@pytest.fixture(params=DAMAGE)
def damaged(request: pytest.FixtureRequest, services: Services) -> Iterator[str]:
    """Three sessions sleep, one of them with a damaged object; a folder has more that is no object."""
    for session_id in ("a", "bad", "c"):
        services.sessions.append(session_id, SAID)
        assert archive_session(services, session_id).outcome is Outcome.ARCHIVED
    [stored] = segments(services, "bad")
    path = root(services) / stored.name
    DAMAGE[request.param][0](path)
    spread = root(services) / names.session_prefix("a")
    (spread / "loop").symlink_to(root(services))
    (spread / ("x" * 250)).touch()
    (spread / "7").mkdir()
    os.mkfifo(spread / "7" / "floor")
    (spread / "7" / "floor").unlink()
    yield request.param
    with suppress(FileNotFoundError):
        path.unlink()


def root(services: Services) -> Path:
    return Path(services.archive.url.removeprefix("file://"))


def test_expire_goes_on(damaged: str, services: Services) -> None:
    [healthy] = segments(services, "c")
    services.archive.amend(healthy, custom_time=datetime(2020, 1, 1, tzinfo=UTC))
    assert services.archive.expire(datetime.now(UTC)) == 1
    assert segments(services, "c") == []
    assert os.path.lexists(root(services) / segments(services, "bad")[0].name)


def test_a_purge_of_idle_sessions_goes_on(
    damaged: str, client: redis.Redis, services: Services, torpor: Torpor
) -> None:
    for session_id in ("a", "c"):
        metadata(active=(datetime.now(UTC) - timedelta(days=2)).isoformat())(
            root(services) / segments(services, session_id)[0].name
        )
    done = torpor("purge", "--idle-for", "1d", "--yes")
    assert segments(services, "a") == segments(services, "c") == [], done


def test_the_others_wake_and_the_damaged_one_is_an_error_of_its_own(
    damaged: str, services: Services, torpor: Torpor
) -> None:
    for session_id in ("a", "c"):
        assert torpor("show", session_id).code == 0
        assert restore_session(services, session_id).messages == 1
    assert torpor("show", "bad").code == int(DAMAGE[damaged][1])
    assert restored_or_refused(services)


def restored_or_refused(services: Services) -> bool:
    try:
        return restore_session(services, "bad").messages == 1
    except PermanentError:
        return services.sessions.info("bad") is None


def test_an_export_of_all_names_it_and_has_the_others(damaged: str, torpor: Torpor) -> None:
    done = torpor("export", "--all")
    exported = {line["session_id"] for line in done.lines}
    assert {"a", "c"} <= exported
    assert done.code == int("bad" not in exported and DAMAGE[damaged][1])


def test_doctor_names_it_once_and_the_log_too(
    damaged: str, services: Services, torpor: Torpor, caplog: pytest.LogCaptureFixture
) -> None:
    _, named = DAMAGE[damaged]
    done = torpor("doctor", "--json")
    found = [each for each in done.lines if each["ailment"] == "object of the archive that is damaged"]
    there = [each for each in found if "/loop" not in each["detail"] and "x" * 20 not in each["detail"]]
    assert (done.code, len(there)) == (1, int(named)), done
    assert len(found) - len(there) == 2  # the link to the archive, and the name that is too long for a description
    caplog.clear()
    for _ in range(3):
        list(services.archive.list(""))
    assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)


def test_a_purge_removes_it_or_says_that_it_stays(damaged: str, services: Services, torpor: Torpor) -> None:
    done = torpor("purge", "--session", "bad", "--yes")
    left = [each for each in services.archive.list(names.session_prefix("bad")) if each.name.endswith(".gz")]
    assert (done.code == 0) == (not left), done
    assert len(segments(services, "a")) == len(segments(services, "c")) == 1
