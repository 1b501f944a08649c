module slm-operator.io/testbed/tools/gateway-crds

go 1.26

// No program: the CRDs of the Gateway API and of its inference extension, as Istio's own tests install them. (The
// extension's module itself is not on the public proxy.)
require istio.io/istio v0.0.0-20260827124520-eed52ebb66ad
