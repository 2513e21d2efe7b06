"""`cove kube play`: manifests of Kubernetes on the local engine (docs/kube-play.md).

`documents` reads YAML, `objects` makes of it a `plan` of requests, `run` carries that out; `present` finds and removes what it made.
Of these only the last two ask an engine.
"""
