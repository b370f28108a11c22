"""The files of deploy/: what they say is what the product takes, and their processes run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import kubernetes_validate
import pytest
import redis
import yaml

from support.cli_sessions import chat, say
from support.command import Torpor
from support.compose import COMPOSE, deployment_of, run_image
from support.paths import ROOT
from support.servers import RedisServer
from support.tls import make_authority
from support.waiting import wait_until
from torpor import MemorystoreChatMessageHistory
from torpor.worker.archive import contents
from torpor.worker.deployment.environment import PREFIX
from torpor.worker.deployment.settings import Settings, load_settings
from torpor.worker.monitoring.table import METRICS

KUBERNETES = ROOT / "deploy" / "kubernetes"
CLOUD_RUN = ROOT / "deploy" / "cloud-run"
TERRAFORM = ROOT / "deploy" / "terraform"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def documents(folder: Path) -> dict[str, Any]:
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))}


MANIFESTS = documents(KUBERNETES)
KUSTOMIZATION = MANIFESTS.pop("kustomization.yaml")
DEPLOYMENTS = {name: each for name, each in MANIFESTS.items() if each["kind"] == "Deployment"}


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    """The part of a Deployment, a WorkerPool or a Job that has its one container."""
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec["template"]["spec"] if "template" in spec else spec


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    [only] = pod(manifest)["containers"]
    return dict(only)


def settings_in(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", [])}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_what_kubernetes_takes(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], "1.30", strict=True)


def test_the_kustomization_has_all_manifests_and_their_labels_are_found() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == sorted(MANIFESTS)
    assert all((KUBERNETES / name).is_file() for each in KUSTOMIZATION["configMapGenerator"] for name in each["envs"])
    [labels] = KUSTOMIZATION["labels"]
    assert labels["includeTemplates"]
    assert MANIFESTS["network-policy.yaml"]["spec"]["podSelector"]["matchLabels"] == labels["pairs"]
    for each in DEPLOYMENTS.values():
        assert each["spec"]["selector"]["matchLabels"] == each["spec"]["template"]["metadata"]["labels"]
        assert pod(each)["serviceAccountName"] == MANIFESTS["service-account.yaml"]["metadata"]["name"]
    worker = MANIFESTS["worker.yaml"]["spec"]["selector"]
    assert MANIFESTS["disruption-budget.yaml"]["spec"]["selector"] == worker


def variables() -> Iterator[tuple[str, dict[str, str]]]:
    lines = (KUBERNETES / "settings.env").read_text().splitlines()
    shared = dict(line.split("=", 1) for line in lines)
    yield from ((name, shared | settings_in(container(each))) for name, each in DEPLOYMENTS.items())
    yield from ((name, settings_in(container(each))) for name, each in documents(CLOUD_RUN).items())


VARIABLES = dict(variables())


@pytest.mark.parametrize("name", VARIABLES)
def test_the_variables_are_settings_that_fit_together(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = VARIABLES[name]
    authority = make_authority(tmp_path / "instance").file
    for variable, value in given.items():
        monkeypatch.setenv(variable, str(authority) if variable.endswith("_CA_FILE") else value)
    settings = load_settings()
    assert (settings.redis_iam, settings.redis_ca_file) == (True, authority)
    assert {f"{PREFIX}{field.upper()}" for field in Settings.model_fields} >= given.keys()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_may_write_to_tmp_alone_and_is_the_images_user(name: str) -> None:
    whole, only = pod(DEPLOYMENTS[name]), container(DEPLOYMENTS[name])
    [user] = re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.MULTILINE)
    assert str(whole["securityContext"]["runAsUser"]) == user
    assert whole["securityContext"]["runAsNonRoot"]
    assert only["securityContext"]["readOnlyRootFilesystem"]
    writable = [each["mountPath"] for each in only["volumeMounts"] if not each.get("readOnly")]
    assert writable == ["/tmp"]


def test_a_worker_has_longer_to_end_than_its_grace() -> None:
    worker = MANIFESTS["worker.yaml"]
    assert pod(worker)["terminationGracePeriodSeconds"] > float(VARIABLES["worker.yaml"][f"{PREFIX}GRACE_SECONDS"])
    assert float(VARIABLES["worker-pool.yaml"][f"{PREFIX}GRACE_SECONDS"]) < 10  # as Cloud Run gives it


@pytest.mark.parametrize("service", ["worker", "beat"])
def test_the_pods_run_as_the_services_of_docker_compose_do(service: str) -> None:
    assert container(MANIFESTS[f"{service}.yaml"])["args"] == COMPOSE["services"][service]["command"]


def test_beat_is_probed_as_in_docker_compose() -> None:
    kind, test = COMPOSE["services"]["beat"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    probe = container(MANIFESTS["beat.yaml"])["livenessProbe"]
    assert probe["exec"]["command"] == ["sh", "-c", test.replace("$$", "$")]


def test_the_workers_port_is_served_probed_scraped_and_let_through() -> None:
    only = container(MANIFESTS["worker.yaml"])
    served = VARIABLES["worker.yaml"][f"{PREFIX}HTTP_PORT"]
    assert [(each["name"], str(each["containerPort"])) for each in only["ports"]] == [("http", served)]
    probes = {name: each["httpGet"] for name, each in only.items() if name.endswith("Probe")}
    assert {each["port"] for each in probes.values()} == {"http"}
    assert {name: each["path"] for name, each in probes.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    template = MANIFESTS["worker.yaml"]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == served
    [rule] = MANIFESTS["network-policy.yaml"]["spec"]["ingress"]
    assert [str(each["port"]) for each in rule["ports"]] == [served]


def test_workers_are_scaled_by_a_metric_that_there_is() -> None:
    [scaled] = documents(KUBERNETES / "keda").values()
    [trigger] = scaled["spec"]["triggers"]
    assert set(re.findall(r"torpor_\w+", trigger["metadata"]["query"])) <= {each.name for each in METRICS}
    assert scaled["spec"]["scaleTargetRef"]["name"] == MANIFESTS["worker.yaml"]["metadata"]["name"]
    assert scaled["metadata"]["namespace"] == KUSTOMIZATION["namespace"]


@pytest.mark.slow
@pytest.mark.single_node(reason="Celery has no Cluster as its broker")
@pytest.mark.parametrize("archive_url", ["folder"], indirect=True)
def test_the_worker_pool_of_cloud_run_archives_what_goes_idle(
    client: redis.Redis, redis_server: RedisServer, archive_url: str, tmp_path: Path
) -> None:
    command = container(documents(CLOUD_RUN)["worker-pool.yaml"])["args"]
    assert "--beat" in command
    deployment = deployment_of(redis_server, archive_url, listen=False)
    with run_image("worker-pool", command, deployment, tmp_path):
        MemorystoreChatMessageHistory(client, "s", 1).add_user_message("hello")
        wait_until(lambda: deployment.sessions.info("s") is None, 60, "beat and worker work")
    assert contents.look(deployment.archive, "s")


def test_the_job_of_cloud_run_sweeps_once(client: redis.Redis, torpor: Torpor) -> None:
    say(client, "s")
    chat(client, "s").close()
    program, *arguments = container(documents(CLOUD_RUN)["job.yaml"])["args"]
    assert program == "torpor"
    done = torpor(*arguments)
    assert (done.code, done.json["sessions"]) == (0, {"archived": 1})


# Terraform: no provider is at hand, so its files are parsed, and each name in them must be declared.


def terraform() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path in sorted(TERRAFORM.glob("*.tf")):
        for kind, blocks in hcl2.loads(path.read_text()).items():
            found.setdefault(kind, []).extend(blocks)
    return found


def unquoted(value: Any) -> Any:
    """A parsed value with the quotation marks of its strings taken away."""
    if isinstance(value, dict):
        return {unquoted(key): unquoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unquoted(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


PARSED = unquoted(terraform())


def of_kind(kind: str) -> dict[str, Any]:
    """Each block of a kind by its address."""
    return {
        f"{type_}.{name}": body
        for block in PARSED.get(kind, [])
        for type_, names in block.items()
        for name, body in names.items()
    }


def test_every_name_in_the_terraform_files_is_declared_and_every_variable_is_used() -> None:
    text = "".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    declared = {name for block in PARSED["variable"] for name in block}
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    used = set(re.findall(r"(?<![\w.])(google_\w+\.\w+)", re.sub(r"data\.google_\w+\.\w+", "", text)))
    assert used <= of_kind("resource").keys()
    assert set(re.findall(r"data\.(google_\w+\.\w+)", text)) == of_kind("data").keys()


def test_the_bucket_is_as_torpor_bucket_wants_it() -> None:
    bucket = of_kind("resource")["google_storage_bucket.archive"]
    assert (bucket["uniform_bucket_level_access"], bucket["public_access_prevention"]) == (True, "enforced")
    [rule] = bucket["lifecycle_rule"]
    assert rule["condition"][0]["days_since_custom_time"] == 0
    assert rule["action"][0]["type"] == "Delete"
    assert "retention_policy" not in bucket
    assert "default_event_based_hold" not in bucket


def test_the_accounts_have_the_permissions_that_the_security_page_names() -> None:
    page = (ROOT / "docs" / "security.md").read_text().partition("### Permissions on the bucket")[2].partition("\n#")[0]
    roles = of_kind("resource")
    granted = {
        permission
        for name, role in roles.items()
        if name.startswith("google_project_iam_custom_role.")
        for permission in role["permissions"]
    }
    shortened = re.findall(r"`(storage\.\w+)\.create`, `\.get`, `\.list`", page)
    named = {
        *re.findall(r"`(storage\.\w+\.\w+)`", page),
        *(f"{each}.{verb}" for each in shortened for verb in ("get", "list")),
    }
    assert granted <= named
    assert "storage.objects.delete" not in roles["google_project_iam_custom_role.archive_reader"]["permissions"]
    assert roles["google_storage_bucket_iam_member.worker"]["role"] == "roles/storage.objectUser"
    assert roles["google_project_iam_member.memorystore"]["role"] == "roles/memorystore.dbConnectionUser"


def test_memorystore_evicts_nothing_and_celery_can_use_it() -> None:
    instance = of_kind("resource")["google_memorystore_instance.sessions"]
    assert instance["engine_configs"] == {"maxmemory-policy": "noeviction"}
    assert (instance["mode"], instance["authorization_mode"]) == ("CLUSTER_DISABLED", "IAM_AUTH")
    assert instance["transit_encryption_mode"] == "SERVER_AUTHENTICATION"
