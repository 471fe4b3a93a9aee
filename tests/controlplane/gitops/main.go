// Says what the tools of GitOps make of an object, by their own rules: kstatus as Flux builds it in, the health script of Argo
// CD, and the health check expressions of Flux.
//
//	gitops-verdicts ARGOCD_CM KUSTOMIZATION <objects
//
// ARGOCD_CM is a ConfigMap argocd-cm with health scripts, KUSTOMIZATION a Kustomization of Flux with healthCheckExprs. Objects
// come on standard input, one in a line as JSON; for each a line of verdicts goes to standard output.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/yaml"
)

// Longer lines are no objects: the API server admits none above 3 MiB.
const longestLine = 4 << 20

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

type verdicts struct {
	Kstatus verdict `json:"kstatus"`
	ArgoCD  verdict `json:"argocd"`
	Flux    verdict `json:"flux"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: gitops-verdicts ARGOCD_CM KUSTOMIZATION <objects")
	}
	scripts, err := healthScripts(os.Args[1])
	if err != nil {
		return fmt.Errorf("%s: %w", os.Args[1], err)
	}
	flux, err := statusReader(os.Args[2])
	if err != nil {
		return fmt.Errorf("%s: %w", os.Args[2], err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	output := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		if err := output.Encode(judge(object, lines.Bytes(), scripts, flux)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func judge(object *unstructured.Unstructured, text []byte, scripts map[string]string, flux engine.StatusReader) verdicts {
	var all verdicts
	if result, err := status.Compute(object); err != nil {
		all.Kstatus = verdict{"Error", err.Error()}
	} else {
		all.Kstatus = verdict{result.Status.String(), result.Message}
	}
	all.ArgoCD = health(object, text, scripts)
	if read, err := flux.ReadStatusForObject(context.Background(), nil, object); err != nil {
		all.Flux = verdict{"Error", err.Error()}
	} else if read.Error != nil {
		all.Flux = verdict{"Error", read.Error.Error()}
	} else {
		all.Flux = verdict{read.Status.String(), read.Message}
	}
	return all
}

// The scripts of a ConfigMap by group and kind, as Argo CD finds them.
func healthScripts(path string) (map[string]string, error) {
	var configMap struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Data map[string]string `json:"data"`
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &configMap); err != nil {
		return nil, err
	}
	if configMap.Metadata.Name != "argocd-cm" {
		return nil, fmt.Errorf("Argo CD reads argocd-cm, not %q", configMap.Metadata.Name)
	}
	scripts := map[string]string{}
	for key, value := range configMap.Data {
		name, found := strings.CutPrefix(key, "resource.customizations.health.")
		if !found {
			return nil, fmt.Errorf("%s is no health script", key)
		}
		scripts[strings.Replace(name, "_", "/", 1)] = value
	}
	return scripts, nil
}

// Flux's own reader for the health check expressions of a Kustomization.
func statusReader(path string) (engine.StatusReader, error) {
	var kustomization struct {
		Spec struct {
			HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
		} `json:"spec"`
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(text, &kustomization); err != nil {
		return nil, err
	}
	reader, err := cel.NewStatusReader(kustomization.Spec.HealthCheckExprs)
	if err != nil {
		return nil, err
	}
	return reader(nil), nil
}

// What Argo CD shows: an object that is being deleted is Progressing whatever the script says (GetResourceHealth of its
// gitops-engine), a script that fails is Unknown.
func health(object *unstructured.Unstructured, text []byte, scripts map[string]string) verdict {
	if object.GetDeletionTimestamp() != nil {
		return verdict{"Progressing", "Pending deletion"}
	}
	kind := object.GroupVersionKind()
	script, found := scripts[kind.Group+"/"+kind.Kind]
	if !found {
		return verdict{"Error", "no script for " + kind.GroupKind().String()}
	}
	result, err := runHealthScript(text, script)
	if err != nil {
		return verdict{"Unknown", err.Error()}
	}
	switch result.Status {
	case "Unknown", "Progressing", "Suspended", "Healthy", "Degraded", "Missing":
		return result
	default:
		return verdict{"Unknown", "Lua returned an invalid health status"}
	}
}

// Runs a script as util/lua of Argo CD does: its engine, its deadline, and of the standard libraries only package, base and
// table, as for every script of an administrator that does not ask for more. Argo CD's two harmless functions of os are left
// out: a script that needs no clock always says the same of the same object.
func runHealthScript(text []byte, script string) (verdict, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}
	for _, library := range libraries {
		parameters := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(parameters, lua.LString(library.name)); err != nil {
			return verdict{}, err
		}
	}
	deadline, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(deadline)
	// Numbers come as floating point, which is what Lua has.
	object, err := luajson.Decode(state, text)
	if err != nil {
		return verdict{}, err
	}
	state.SetGlobal("obj", object)
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return verdict{}, fmt.Errorf("expect table output from Lua script, not %s", returned.Type())
	}
	encoded, err := luajson.Encode(returned)
	if err != nil {
		return verdict{}, err
	}
	var result verdict
	return result, json.Unmarshal(encoded, &result)
}
