"""Whether every object is one that Kubernetes, or the operator it is for, knows: strictly, so that a misspelt field is an error.

Kubernetes' own kinds are judged by kubernetes-validate, those of KEDA and of Prometheus' operator by the models of cloudcoil.
Of External Secrets, CloudNativePG and Barman Cloud no package has the schemas as they are today: the fields that we use are
written down here, from their published definitions, and any other is an error until somebody has looked it up.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

import dev
from tests.deploy.rendering import Doc, name, tool

KUBERNETES = ("1.28", "1.37")
"""The oldest that we say we run on, and the newest that the tool knows."""

MODELS = {
    ("keda.sh/v1alpha1", "ScaledObject"): "cloudcoil.models.keda.v1alpha1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "cloudcoil.models.prometheus_operator.v1",
}

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer"}
YES: Schema = {"type": "boolean"}


def _object(required: Iterable[str] = (), /, **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of, "minItems": 1}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _map() -> Schema:
    return {"type": "object", "additionalProperties": {"type": "string"}}


NAMED = _object(["name"], name=TEXT)
KEY = _object(["name", "key"], name=TEXT, key=TEXT)
SIZE = _object(["size"], size=TEXT, storageClass=TEXT)
REMOTE = _object(["key"], key=TEXT, property=TEXT, version=TEXT)

OURS: dict[tuple[str, str], Schema] = {
    ("external-secrets.io/v1", "ExternalSecret"): _object(
        ["secretStoreRef"],
        refreshInterval=TEXT,
        secretStoreRef=_object(["name"], kind=_one_of("SecretStore", "ClusterSecretStore"), name=TEXT),
        target=_object(
            name=TEXT,
            creationPolicy=_one_of("Owner", "Orphan", "Merge", "None"),
            template=_object(type=TEXT, metadata=_object(labels=_map(), annotations=_map())),
        ),
        data=_list(_object(["secretKey", "remoteRef"], secretKey=TEXT, remoteRef=REMOTE)),
    ),
    ("postgresql.cnpg.io/v1", "Cluster"): _object(
        ["instances", "storage"],
        instances=NUMBER,
        imageName=TEXT,
        primaryUpdateStrategy=_one_of("unsupervised", "supervised"),
        bootstrap=_object(
            initdb=_object(
                database=TEXT,
                owner=TEXT,
                secret=NAMED,
                encoding=TEXT,
                localeProvider=_one_of("builtin", "icu", "libc"),
                builtinLocale=TEXT,
                postInitApplicationSQLRefs=_object(configMapRefs=_list(KEY), secretRefs=_list(KEY)),
            )
        ),
        managed=_object(
            roles=_list(
                _object(
                    ["name"], name=TEXT, ensure=_one_of("present", "absent"), login=YES, passwordSecret=NAMED
                )
            )
        ),
        postgresql=_object(
            parameters=_map(),
            synchronous=_object(
                ["method", "number"],
                method=_one_of("any", "first"),
                number={"type": "integer", "minimum": 1},
                dataDurability=_one_of("required", "preferred"),
            ),
        ),
        storage=SIZE,
        walStorage=SIZE,
        resources=_object(requests=_map(), limits=_map()),
        affinity=_object(
            enablePodAntiAffinity=YES, podAntiAffinityType=_one_of("preferred", "required"), topologyKey=TEXT
        ),
        plugins=_list(_object(["name"], name=TEXT, enabled=YES, isWALArchiver=YES, parameters=_map())),
    ),
    ("postgresql.cnpg.io/v1", "ScheduledBackup"): _object(
        ["schedule", "cluster"],
        # With seconds: five fields, as of a CronJob, would be read as other times.
        schedule={"type": "string", "pattern": r"^\S+( \S+){5}$"},
        backupOwnerReference=_one_of("none", "self", "cluster"),
        cluster=NAMED,
        immediate=YES,
        suspend=YES,
        method=_one_of("barmanObjectStore", "volumeSnapshot", "plugin"),
        target=_one_of("primary", "prefer-standby"),
        pluginConfiguration=_object(["name"], name=TEXT, parameters=_map()),
    ),
    ("barmancloud.cnpg.io/v1", "ObjectStore"): _object(
        ["configuration"],
        retentionPolicy={"type": "string", "pattern": "^[1-9][0-9]*[dwm]$"},
        configuration=_object(
            ["destinationPath"],
            destinationPath=TEXT,
            endpointURL=TEXT,
            endpointCA=KEY,
            s3Credentials=_object(accessKeyId=KEY, secretAccessKey=KEY),
            wal=_object(compression=TEXT, maxParallel=NUMBER),
            data=_object(compression=TEXT, jobs=NUMBER),
        ),
    ),
}
"""Of each its `spec`."""


def unknown(found: Sequence[Doc], folder: Path, versions: Sequence[str] = KUBERNETES) -> list[str]:
    """Objects and fields that nobody knows, and values of the wrong type; `folder` is for what the tool reads."""
    theirs = [d for d in found if (d["apiVersion"], d["kind"]) not in {*MODELS, *OURS}]
    return [*_kubernetes(theirs, folder, versions), *(line for d in found for line in _extension(d))]


def _kubernetes(found: Sequence[Doc], folder: Path, versions: Sequence[str]) -> list[str]:
    """By its own command: a kind that it does not know is only a warning to it."""
    if not found:
        return []
    file = folder / "objects.yaml"
    file.write_text("---\n".join(json.dumps(doc) + "\n" for doc in found))
    said = []
    for version in versions:
        told = subprocess.run(
            [tool("kubernetes-validate"), "--strict", "-k", version, file], capture_output=True, text=True
        )
        lines = [line for line in (told.stdout + told.stderr).splitlines() if not line.startswith("INFO")]
        if told.returncode and not lines:
            lines = [f"exit status {told.returncode}"]
        said += [f"{version}: {line}" for line in lines]
    return said


def _extension(doc: Doc) -> list[str]:
    kind = (doc["apiVersion"], doc["kind"])
    if kind in OURS:
        whole = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object"}, "spec": OURS[kind]}
        schema = {
            "type": "object",
            "properties": whole,
            "required": list(whole),
            "additionalProperties": False,
        }
    elif kind in MODELS:
        schema = _models()[doc["kind"]]
    else:
        return []
    judged = jsonschema.Draft202012Validator(schema).iter_errors(doc)
    return [f"{name(doc)}: {'.'.join(map(str, e.absolute_path))}: {e.message}"[:300] for e in judged]


@cache
def _models() -> dict[str, Schema]:
    """cloudcoil lives with the tools: asked for its schemas in a process of its own, once, since it takes seconds. Its models
    would let an unknown field pass, so every object of them is closed here."""
    kinds = [kind for _, kind in MODELS]
    kept = dev.DEPLOY / "schemas.json"  # it goes with the tools when they change
    found: dict[str, Schema] = json.loads(kept.read_text()) if kept.exists() else {}
    if sorted(found) != sorted(kinds):
        ask = "".join(f"from {module} import {kind}\n" for (_, kind), module in MODELS.items())
        ask += f"import json\nprint(json.dumps({{c.__name__: c.model_json_schema(by_alias=True) for c in ({', '.join(kinds)},)}}))"
        told = subprocess.run(
            [tool("python"), "-W", "ignore", "-c", ask], capture_output=True, text=True, check=True
        )
        found = json.loads(told.stdout)
        part = kept.with_name(f"schemas.{os.getpid()}")
        part.write_text(told.stdout)
        part.replace(kept)
    for schema in found.values():
        _close(schema)
    return found


def _close(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)
