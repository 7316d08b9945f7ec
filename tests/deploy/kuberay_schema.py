"""What KubeRay's RayCluster and RayJob may have, as far as our manifests use it: any other field is refused.

Written by hand from KubeRay's Go types (RayClusterSpec, HeadGroupSpec, WorkerGroupSpec, AutoscalerOptions, RayJobSpec)
and, for `authOptions`, from Ray's guide to it: KubeRay's own schema is in no package that a test could install. Pod
templates are Kubernetes' own, and are checked against its published schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import kubernetes_validate
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

KUBERNETES = "1.33"


def _pod_template(template: dict[str, Any]) -> dict[str, Any]:
    wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "one"}, "template": template}
    kubernetes_validate.validate(wrapped, KUBERNETES, strict=True)
    return template


PodTemplate = Annotated[dict[str, Any], AfterValidator(_pod_template)]
Count = Annotated[int, Field(strict=True, ge=0)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Metadata(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$")]
    labels: dict[str, str] = {}


class AuthOptions(Strict):
    mode: Literal["disabled", "token"]


class AutoscalerOptions(Strict):
    idleTimeoutSeconds: Count
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    securityContext: dict[str, Any]


class HeadGroup(Strict):
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    rayStartParams: dict[str, Text]
    template: PodTemplate


class WorkerGroup(Strict):
    groupName: Text
    replicas: Count
    minReplicas: Count
    maxReplicas: Count
    rayStartParams: dict[str, Text]
    template: PodTemplate


class ClusterSpec(Strict):
    rayVersion: Text
    authOptions: AuthOptions
    enableInTreeAutoscaling: Annotated[bool, Field(strict=True)]
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: Annotated[list[WorkerGroup], Field(min_length=1)]


class JobSpec(Strict):
    entrypoint: Text
    shutdownAfterJobFinishes: Annotated[bool, Field(strict=True)]
    ttlSecondsAfterFinished: Count
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    backoffLimit: Count
    rayClusterSpec: ClusterSpec


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


KINDS: dict[str, type[Strict]] = {"RayCluster": RayCluster, "RayJob": RayJob}


def validate(document: dict[str, Any]) -> None:
    """Raises where Kubernetes or KubeRay would refuse a manifest."""
    if document["kind"] in KINDS:
        KINDS[document["kind"]].model_validate(document)
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
