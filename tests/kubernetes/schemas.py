"""Holds the objects on stdin against the models of `cloudcoil`: prints, for each, what is wrong with it."""

import importlib
import json
import sys

MODULES = {
    "v1": "kubernetes.core", "apps/v1": "kubernetes.apps", "batch/v1": "kubernetes.batch",
    "monitoring.coreos.com/v1": "prometheus_operator",
}  # fmt: skip

told = []
for one in json.load(sys.stdin):
    module = importlib.import_module(f"cloudcoil.models.{MODULES[one['apiVersion']]}.v1")
    try:
        model = getattr(module, one["kind"]).model_validate(one)
    except ValueError as error:
        told.append(str(error))
        continue
    kept = model.model_dump(by_alias=True, exclude_unset=True, mode="json")
    told.append("" if kept == one else "it has what the schema does not know")
json.dump(told, sys.stdout)
