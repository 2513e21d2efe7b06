"""To Kubernetes and from it: manifests of what runs here, a cluster that runs them, and pods on this engine (docs/kubernetes.md)."""
