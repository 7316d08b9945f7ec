"""The files of deploy/: each against a schema that can refuse it, and what SECURITY.md promises of all of them."""

from __future__ import annotations

import copy
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from compose_schema import Compose
from installed_package import ROOT, copied, instructions
from pydantic import ValidationError

DEPLOY = ROOT / "deploy"
KUBERAY = sorted((DEPLOY / "kuberay").glob("*.yaml"))
DOCUMENTS = [(path.name, document) for path in KUBERAY for document in yaml.safe_load_all(path.read_text())]
SECRETS = re.compile(r"PASSWORD|TOKEN(?!_PATH)")


def document(name, kind):
    return next(found for file, found in DOCUMENTS if (file, found["kind"]) == (name, kind))


def pods():
    """The name and pod specification of everything that starts pods."""
    for file, found in DOCUMENTS:
        if found["kind"] == "StatefulSet":
            yield file, found["spec"]["template"]["spec"]
        if found["kind"] in ("RayCluster", "RayJob"):
            spec = found["spec"].get("rayClusterSpec", found["spec"])
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                yield file, group["template"]["spec"]


@pytest.mark.parametrize(("file", "found"), DOCUMENTS, ids=[f"{file}-{found['kind']}" for file, found in DOCUMENTS])
def test_kubernetes_would_take_each_manifest_and_none_with_a_misspelt_field(file, found):
    kuberay_schema = pytest.importorskip("kuberay_schema")
    kuberay_schema.validate(found)
    wrong = copy.deepcopy(found)
    wrong["spec"]["mispelt"] = 1
    with pytest.raises(Exception, match="mispelt"):
        kuberay_schema.validate(wrong)


def test_a_misspelt_field_inside_a_pod_template_is_seen():
    kuberay_schema = pytest.importorskip("kuberay_schema")
    wrong = copy.deepcopy(document("cluster.yaml", "RayCluster"))
    wrong["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(Exception, match="volumeMount"):
        kuberay_schema.validate(wrong)


def test_no_pod_runs_as_root_or_may_become_it():
    found = list(pods())
    assert len(found) == 5
    for file, spec in found:
        assert spec["securityContext"]["runAsNonRoot"] is True, file
        assert spec["securityContext"]["runAsUser"] > 0, file
        for container in spec["containers"]:
            own = container["securityContext"]
            assert (own["allowPrivilegeEscalation"], own["capabilities"]) == (False, {"drop": ["ALL"]}), file


def test_no_manifest_has_a_secret_in_it_and_workers_get_none():
    given = [(file, entry) for file, spec in pods() for c in spec["containers"] for entry in c.get("env", [])]
    secret = [entry for _, entry in given if SECRETS.search(entry["name"])]
    assert len(secret) == 3  # of the database, and of the two heads
    assert all("value" not in entry and entry["valueFrom"]["secretKeyRef"] for entry in secret)
    assert [
        entry for _, entry in given if "://" in entry.get("value", "") and re.search("://[^@]*:", entry["value"])
    ] == []
    for _, found in DOCUMENTS:
        spec = found["spec"].get("rayClusterSpec", found["spec"])
        for group in spec.get("workerGroupSpecs", []):
            assert all("env" not in container for container in group["template"]["spec"]["containers"])


def test_the_clusters_of_kuberay_ask_for_tokens_and_grow_from_no_gpus():
    cluster = document("cluster.yaml", "RayCluster")["spec"]
    assert document("job.yaml", "RayJob")["spec"]["rayClusterSpec"] == cluster
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()
    (group,) = cluster["workerGroupSpecs"]
    assert (cluster["enableInTreeAutoscaling"], group["replicas"], group["minReplicas"]) == (True, 0, 0)
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_jobs_command_is_one_that_aquasurf_takes():
    from typer.main import get_command

    from aquasurf_ray.cli.main import app
    from aquasurf_ray.driver.settings.reading import make_config

    job = document("job.yaml", "RayJob")["spec"]
    program, name, *arguments = shlex.split(job["entrypoint"])
    assert (program, name) == ("aquasurf", "search")
    given = get_command(app).commands[name].make_context(name, arguments).params
    told = make_config({key: value for key, value in given.items() if value and key != "as_json"})
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert told.workers == group["maxReplicas"]
    assert told.wait_for_nodes > 0
    assert Path(told.storage).parts[1] == "storage"


PAGES = [ROOT / "docs" / "clusters.md", *sorted(DEPLOY.glob("*/README.md"))]
COMMAND = re.compile(r"^ *(?:aquasurf submit (?:--\S+ \S+ )*-- |sbatch .*search.sbatch )(.*)$", flags=re.M)


def test_the_commands_that_the_pages_send_to_clusters_are_ones_that_aquasurf_takes():
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    sent = [line for page in PAGES for line in COMMAND.findall(re.sub(r"\\\n *", "", page.read_text()))]
    assert len(sent) == 8
    for line in sent:
        name, *arguments = shlex.split(line)
        get_command(app).commands[name].make_context(name, arguments)


def compose():
    return Compose.model_validate(yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text()))


def test_compose_publishes_on_loopback_only_asks_for_tokens_and_has_no_secret_in_it():
    services = compose().services
    assert compose().unknown() == []
    assert [port for service in services.values() for port in service.ports] == ["127.0.0.1:8265:8265"]
    assert services["worker"].deploy.replicas == 2
    for name in ("head", "worker"):
        assert services[name].environment["RAY_AUTH_MODE"] == "token"
        assert services[name].cap_drop == ["ALL"]
        assert (ROOT / services[name].build.dockerfile).is_file()
    for service in services.values():
        values = [value for key, value in service.environment.items() if SECRETS.search(key)]
        assert all(re.fullmatch(r"\$\{[A-Z_]+:\?\}", value) for value in values), "an empty one is refused"
    assert not [key for key in services["worker"].environment if "PASSWORD" in key or "STORE" in key]
    assert set(compose().volumes) == {v.split(":")[0] for service in services.values() for v in service.volumes}


@pytest.mark.parametrize(
    "change", [{"ports": ["8265:8265"]}, {"ports": ["0.0.0.0:8265:8265"]}, {"privileged": True}, {"restart": "never"}]
)
def test_the_compose_schema_refuses(change):
    wrong = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    wrong["services"]["head"] |= change
    with pytest.raises(ValidationError):
        Compose.model_validate(wrong)


def launcher():
    return yaml.safe_load((DEPLOY / "ray" / "cluster.yaml").read_text())


def test_ray_itself_takes_the_launchers_configuration():
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(launcher()))
    with pytest.raises(jsonschema.ValidationError, match="mispelt"):
        validate_config(prepare_config({**launcher(), "mispelt": 1}))
    options = launcher()["docker"]["run_options"]
    assert "-e RAY_AUTH_MODE=token" in options
    assert not any("--net" in option or "privileged" in option for option in options)
    node_types = launcher()["available_node_types"]
    assert node_types["gpu"]["min_workers"] == 0
    assert node_types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def ray_commands():
    """Every `ray start` of the Compose file and of the launcher."""
    lines = [service.command for service in compose().services.values() if service.command]
    lines += launcher()["head_start_ray_commands"] + launcher()["worker_start_ray_commands"]
    return [line for line in lines if line.startswith("ray start")]


def test_every_option_of_ray_start_is_one_that_ray_has():
    from ray.scripts.scripts import start

    lines = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", line) for line in ray_commands()]
    assert len(lines) == 4
    for line in lines:
        context = start.make_context("ray start", shlex.split(line)[2:])
        assert context.params["head"] or context.params["address"]
    with pytest.raises(Exception, match="no-such-option"):
        start.make_context("ray start", ["--no-such-option"])


def test_the_image_has_no_root_no_remote_files_and_no_secrets():
    found = instructions()
    assert [argument for name, argument in found if name == "USER"] == ["10001"]
    last_user = max(i for i, (name, _) in enumerate(found) if name == "USER")
    assert not any(name in ("RUN", "COPY", "ADD") for name, _ in found[last_user:])
    assert not any(name == "ADD" for name, _ in found)
    settings = " ".join(argument for name, argument in found if name in ("ENV", "ARG"))
    assert "RAY_AUTH_MODE=token" in settings
    assert not re.search(r"PASSWORD|SECRET|AUTH_TOKEN\b", settings)
    assert ("ARG", "BASE=python:3.11-slim-bookworm") in found
    assert sum(argument.startswith("${BASE}") for name, argument in found if name == "FROM") == 2


def test_what_the_image_copies_is_there_is_the_whole_distribution_and_is_let_through():
    assert all((ROOT / source).exists() for source in copied())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.removesuffix("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    linked = {path.readlink().name for path in (ROOT / "aquasurf_ray").iterdir() if path.is_symlink()}
    assert linked == {"store", "surrogate", "workers"}
    assert packages | linked | {"pyproject.toml", "constraints.txt"} <= set(copied())
    ignore = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied())


def test_the_batch_script_is_bash_and_asks_for_a_signal_before_its_end():
    script = DEPLOY / "slurm" / "search.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(\S*)$", script.read_text(), flags=re.M))
    assert options["signal"] == "B:USR1@120"
    drain = int(re.search(r"^DRAIN_SECONDS=(\d+)", script.read_text(), flags=re.M)[1])
    assert 60 < drain < 120
    assert options["open-mode"] == "append"
    assert "requeue" in options


def test_each_way_of_deploying_says_how_it_was_tested():
    folders = [path for path in DEPLOY.iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {"docker", "compose", "ray", "kuberay", "slurm"}
    for folder in folders:
        assert "## How it was tested" in (folder / "README.md").read_text(), folder.name
