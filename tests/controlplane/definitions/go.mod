module forgebind.dev/controlplane/definitions

go 1.26

// Nothing is compiled: their files are the definitions of kinds that the chart makes objects of.
require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.4.0
)
