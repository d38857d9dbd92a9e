# SPDX-License-Identifier: MIT OR Apache-2.0
"""Are the manifests what Kubernetes takes, and do they fit each other?

    kubernetes.py FOLDER...     each with a kustomization.yaml: what it comes to is built, and printed as JSON

Built as kustomize does: resources of other folders, generated config maps and secrets, strategic merge of patches. Validated
by the schemas of Kubernetes, strictly: an unknown key is an error.
"""
import json
import pathlib
import sys

import kubernetes_validate
import yaml

VERSION = kubernetes_validate.latest_version()


def merge(base, patch):
    """A strategic merge: maps by key, lists of things with names by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merge(base[key], value) if key in base else value for key, value in patch.items()}
    if isinstance(base, list) and isinstance(patch, list) and all(isinstance(item, dict) for item in base + patch):
        key = "mountPath" if any("mountPath" in item for item in base + patch) else "name"
        merged = {item[key]: item for item in base}
        for item in patch:
            merged[item[key]] = merge(merged[item[key]], item) if item[key] in merged else item
        return list(merged.values())
    return patch


def build(folder):
    """All objects of a kustomization, and the names of what it generates."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "secretGenerator", "images", "patches"}
    assert not kustomization.keys() - known, kustomization.keys() - known
    objects = []
    for resource in kustomization["resources"]:
        path = folder / resource
        objects += build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for generator, kind in [("configMapGenerator", "ConfigMap"), ("secretGenerator", "Secret")]:
        for made in kustomization.get(generator, []):
            files = {name: (folder / name).read_text() for name in made["files"]}
            text = {"data": files} if kind == "ConfigMap" else {"stringData": files}
            objects.append({"apiVersion": "v1", "kind": kind, "metadata": {"name": made["name"]}} | text)
    for patch in kustomization.get("patches", []):
        change = yaml.safe_load(patch["patch"])
        of = [index for index, it in enumerate(objects)
              if it["kind"] == change["kind"] and it["metadata"]["name"] == change["metadata"]["name"]]
        assert len(of) == 1, f"{folder}: the patch is of {len(of)} objects"
        objects[of[0]] = merge(objects[of[0]], change)
    return objects


for argument in sys.argv[1:]:
    objects = build(pathlib.Path(argument))
    for it in objects:
        kubernetes_validate.validate(it, VERSION, strict=True)
    by_kind = {}
    for it in objects:
        by_kind.setdefault(it["kind"], []).append(it)
    [workload] = by_kind.get("Deployment", []) + by_kind.get("StatefulSet", [])
    pod = workload["spec"]["template"]
    labels = pod["metadata"]["labels"]
    selectors = [workload["spec"]["selector"]["matchLabels"]]
    selectors += [it["spec"]["selector"]["matchLabels"] for it in by_kind["PodDisruptionBudget"]]
    selectors += [it["spec"]["podSelector"]["matchLabels"] for it in by_kind.get("NetworkPolicy", [])]
    assert all(selector.items() <= labels.items() for selector in selectors), selectors
    [container] = pod["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes), "mounts and volumes"
    ports = {port["name"] for port in container["ports"]}
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"]:
        assert container[probe]["httpGet"]["port"] in ports
    made = {it["metadata"]["name"] for it in by_kind.get("ConfigMap", []) + by_kind.get("Secret", [])}
    wanted = {volume[kind][name] for volume in volumes.values()
              for kind, name in [("configMap", "name"), ("secret", "secretName")] if kind in volume}
    print(json.dumps({"folder": argument, "objects": len(objects), "kind": workload["kind"], "args": container["args"],
                      "grace": pod["spec"]["terminationGracePeriodSeconds"], "not-made-here": sorted(wanted - made),
                      "files": {name: text for it in by_kind.get("ConfigMap", []) + by_kind.get("Secret", [])
                                for name, text in (it.get("data") or it["stringData"]).items()}}))
