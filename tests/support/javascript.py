"""The Node program of `examples/node`, installed in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.servers import RedisServer, missing
from support.waiting import scaled

_EXAMPLE = ROOT / "examples" / "node"
# Runs pieces of code with an open deployment, `torpor`, and prints the value of each, or why it was refused.
_AROUND = """
import { readFile } from "node:fs/promises";
import { createClient, createCluster } from "redis";
import { Torpor } from "./torpor.js";

const { REDIS_URL: url, REDIS_CLUSTER, BROKER_URL, WAKE_SECONDS } = process.env;
const client = REDIS_CLUSTER ? createCluster({ rootNodes: [{ url }] }) : createClient({ url });
const broker = createClient({ url: BROKER_URL });
for (const each of [client, broker]) { each.on("error", () => {}); await each.connect(); }
const scripts = JSON.parse(await readFile("scripts.json"));
const opened = Torpor.open(client, scripts, { broker, wakeSeconds: Number(WAKE_SECONDS) });
const told = [];
for (const act of [%s]) {
  try {
    told.push({ value: await act(await opened) });
  } catch (error) {
    told.push({ refused: error.code ?? error.name, message: error.message });
  }
}
console.log(JSON.stringify(told));
for (const each of [client, broker]) await each.close();
"""


@dataclass(frozen=True)
class Node:
    """Runs JavaScript in the folder of the installed program, over a server."""

    folder: Path
    server: RedisServer
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, code: str, *, wake_seconds: float = 30) -> Any:
        """The value that a piece of code returns; a refusal is a dict with `refused` and `message`."""
        [value] = self.run_each([code], wake_seconds=wake_seconds)
        return value

    def run_each(self, codes: Sequence[str], *, wake_seconds: float = 30) -> list[Any]:
        """The same of several, in one process."""
        script = _AROUND % ",".join(f"async (torpor) => {{ {code} }}" for code in codes)
        told = json.loads(self._node("--input-type=module", "--eval", script, WAKE_SECONDS=str(wake_seconds)))
        return [each.get("value", each) for each in told]

    def chat(self, *arguments: str) -> list[str]:
        """The lines that the program chat.js prints."""
        return self._node("chat.js", *arguments, WAKE_SECONDS="60").splitlines()

    def _node(self, *arguments: str, **variables: str) -> str:
        environment = {"PATH": os.environ["PATH"], **_servers(self.server), **self.variables, **variables}
        done = subprocess.run(
            ["node", *arguments],
            cwd=self.folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=scaled(60),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _servers(server: RedisServer) -> dict[str, str]:
    settings = server.settings
    cluster = {"REDIS_CLUSTER": "1"} if settings.get("redis_cluster") else {}
    return {"REDIS_URL": server.url, "BROKER_URL": settings.get("broker_url", server.url), **cluster}


def install(folder: Path) -> Path:
    """Install the program with the packages of its lock file, and with the scripts of this Torpor."""
    npm = shutil.which("npm")
    if not (npm and shutil.which("node")):
        missing("Node")
    program = folder / "node"
    shutil.copytree(_EXAMPLE, program, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=program, check=False, capture_output=True, text=True
    )
    if installed.returncode:
        pytest.skip(f"npm can't install the packages: {installed.stderr.strip()}")
    with (program / "scripts.json").open("wb") as scripts:
        subprocess.run(
            [sys.executable, "-m", "torpor", "scripts", "append", "read", "--json"], check=True, stdout=scripts
        )
    return program
