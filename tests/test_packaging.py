"""What is shipped for operators holds together: units, image, alert rules, dashboard, example of settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from hypercluster.node.cli.elsewhere import is_setting, options_of, variable_of
from hypercluster.node.gateway.metrics import GatewayMetrics
from hypercluster.node.home.config import read_config
from hypercluster.node.home.settings import Settings
from hypercluster.node.provider.metrics import ProviderMetrics
from hypercluster.node.verifier import metrics as verifier_metrics

PACKAGING = Path(__file__).resolve().parents[1] / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
METRIC = re.compile(r"hypercluster_[a-z0-9_]+")


def command(program: str) -> Any:
    app = import_module(f"hypercluster.node.cli.{program.removeprefix('hc-')}.app").app
    group: Any = typer.main.get_command(app)
    return group.commands["run"]


def variables(program: str) -> set[str]:
    """What the environment may tell a program."""
    settings = {f"HC_{name.upper()}" for name in Settings.model_fields}
    return settings | {variable_of(name) for name, _ in options_of(command(program).params)} | {"HC_CONFIG"}


def names() -> set[str]:
    """Every name under which a program of ours tells a metric, those of histograms included."""
    transcripts = SimpleNamespace(max_bytes=1, size=lambda: 0)
    showing: Any = SimpleNamespace(
        offer=None,
        standings=None,
        demands=None,
        prospects=SimpleNamespace(transcripts=transcripts),
        duties=(),
    )
    provider, verifier = CollectorRegistry(), CollectorRegistry()
    ProviderMetrics(provider, showing)
    verifier_metrics.counted(showing, SimpleNamespace(), verifier)  # type: ignore[arg-type]
    gateway = GatewayMetrics()
    gateway.process.stores(PACKAGING.parent)
    registries = (provider, verifier, gateway.registry)
    return {name for registry in registries for name in registry._names_to_collectors}


NAMES = names()


def settings_of(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_calls_a_program_that_there_is_with_what_it_knows(unit: Path) -> None:
    found = settings_of(unit)
    (start,) = found["ExecStart"]
    path, subcommand, *flags = start.split()
    program = Path(path).name
    assert subcommand == "run"
    assert {f"--{name}" for name, _ in options_of(command(program).params)} >= {
        flag for flag in flags if flag.startswith("--")
    }
    for told in found["Environment"]:
        assert told.partition("=")[0] in variables(program)
    (credential,) = found["LoadCredential"]
    assert credential.startswith("password:")
    assert "HC_PASSWORD_FILE=%d/password" in found["Environment"]
    assert not re.search(r"HC_PASSWORD\b|--password", unit.read_text())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_takes_a_unit(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name.replace("@.", "@one.")
    # The program is not installed there on this machine.
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if unit.name.partition(".")[0].rstrip("@") in line]
    assert about_it == []


def test_alert_rules_name_metrics_and_jobs_that_there_are() -> None:
    document = yaml.safe_load((PACKAGING / "prometheus/alerts.yml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    sources = "".join(path.read_text() for path in (PACKAGING.parent / "node").rglob("*.py"))
    for rule in rules:
        expression = rule["expr"]
        assert expression.count("(") == expression.count(")"), rule
        used = set(METRIC.findall(expression)) - {"hypercluster_"}
        assert {name for name in used if name not in NAMES} == set(), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        for told in re.findall(r'job=~?"([^"]+)"', expression):
            for job in told.split("|"):
                assert job == "hypercluster.*" or f'"{job}"' in sources, job
    told = json.dumps(rules)
    for wanted in (
        "demand_deadline", "reveal_deadline", "node_gas", "transcript_bytes", "closing_unclaimed", "job_last_success"
    ):  # fmt: skip
        assert wanted in told


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    board = json.loads((PACKAGING / "grafana/hypercluster.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in panels:
        for target in panel["targets"]:
            used = set(METRIC.findall(target["expr"]))
            assert used, panel["title"]
            assert {name for name in used if name not in NAMES} == set(), panel["title"]
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(places)) == len(places)
    assert not re.search(r"https?://", json.dumps(board))


def test_the_example_of_settings_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HC_CONFIG", str(PACKAGING / "hypercluster.toml"))
    config = read_config(Settings.model_fields)
    assert config is not None
    for table, told in config.tables.items():
        known = {name for name, _ in options_of(command(f"hc-{table}").params) if not is_setting(name)}
        assert told.keys() <= known
    assert set(config.tables) == {"provider", "verifier", "gateway"}


def test_the_image_runs_as_nobody_and_copies_what_is_there() -> None:
    text = (PACKAGING / "Dockerfile").read_text()
    assert re.search(r"^USER hypercluster$", text, flags=re.M)
    assert "HEALTHCHECK" in text
    assert "--require-hashes" in text
    known = variables("hc-provider") | {"HC_HEALTH_URL"}
    assert set(re.findall(r"\bHC_[A-Z_]+", text)) <= known
    allowed = (PACKAGING / "Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.M):
        for name in line.split()[:-1]:
            assert (PACKAGING.parent / name).exists(), name
            assert any(each.startswith(f"!{name}") for each in allowed), name
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, flags=re.M)
    assert {"build-cpu", "build-cuda", "run-cpu", "run-cuda"} <= set(stages)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="only where Docker may be started")
@pytest.mark.skipif(not shutil.which("docker"), reason="Docker is not here")
def test_docker_reads_the_file() -> None:
    running = subprocess.run(["docker", "info"], capture_output=True, check=False)
    if running.returncode:
        pytest.skip("Docker does not run")
    command = ["docker", "build", "--check", "-f", str(PACKAGING / "Dockerfile"), str(PACKAGING.parent)]
    subprocess.run(command, check=True, capture_output=True)


OPERATING = (PACKAGING.parent / "docs/operating.md").read_text()


def test_the_page_for_operators_names_every_setting_and_only_metrics_that_there_are() -> None:
    cells = re.findall(r"^\| (`HC_[^|]+)\|", OPERATING, flags=re.M)
    listed = {name for cell in cells for name in re.findall(r"`(HC_\w+)`", cell)}
    assert listed == {f"HC_{name.upper()}" for name in Settings.model_fields}
    told = {name.removesuffix("_bucket") for name in METRIC.findall(OPERATING)}
    assert {name for name in told if name not in NAMES} == set()


def test_the_page_for_operators_names_options_and_commands_that_there_are() -> None:
    programs = ("hc-provider", "hc-verifier", "hc-gateway")
    known = {f"--{name}" for program in programs for name, _ in options_of(command(program).params)} | {
        "--config"
    }
    flags = set(re.findall(r"`(--[a-z][a-z-]+)", OPERATING))
    assert {flag for flag in flags if flag not in known | {"--exact", "--force-reinstall", "--help"}} == set()
    for program, name in set(re.findall(r"\b(hc-(?:provider|verifier|gateway|client)) ([a-z]+)", OPERATING)):
        app = import_module(f"hypercluster.node.cli.{program.removeprefix('hc-')}.app").app
        group: Any = typer.main.get_command(app)
        assert name in group.commands, f"{program} {name}"
