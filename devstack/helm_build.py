"""The Helm binary: found on this machine, or built once from the pinned Go module and cached."""

from pathlib import Path

from devstack.go_build import GoProgram

VERSION = "v3.22.0"
#: The minor version of Kubernetes that this Helm is for: that of k8s.io/client-go in its go.mod.
KUBERNETES_MINOR = "37"

find_or_build = GoProgram(
    name="helm",
    version=VERSION,
    package="helm.sh/helm/v3/cmd/helm",
    module=Path(__file__).parent / "helm",
    variable="HELM_BIN",
    takes="2 minutes",
    # Only the tests of the chart need it, and others run meanwhile.
    niceness=10,
    # As Helm's Makefile does it. Without them Helm takes an unknown cluster for Kubernetes 1.20.
    linked={
        "helm.sh/helm/v3/internal/version.version": VERSION,
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor": KUBERNETES_MINOR,
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": KUBERNETES_MINOR,
    },
).find_or_build

if __name__ == "__main__":
    find_or_build()
