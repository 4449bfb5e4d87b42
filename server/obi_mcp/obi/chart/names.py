"""The names of the presets, apart from what they are: a server that lists its tools needs no more."""

from __future__ import annotations

from enum import StrEnum


class PresetName(StrEnum):
    """The presets there are: two by what they are for, the others by platform."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"
    AWS = "aws"
    GCP = "gcp"
    GCP_AUTOPILOT = "gcp-autopilot"
    AZURE = "azure"
    BOTTLEROCKET = "bottlerocket"
    OPENSHIFT = "openshift"


class Delivery(StrEnum):
    """How values are handed on: for helm itself, or for the controller that runs helm (or only its templates)."""

    VALUES = "values"
    HELMRELEASE = "helmrelease"
    ARGOCD = "argocd"
