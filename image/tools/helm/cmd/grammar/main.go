// Command grammar prints the grammar of the pinned helm as JSON.
package main

import (
	"fmt"
	"os"

	"obi-mcp/tools/grammar"

	helm "helm.sh/helm/v4/pkg/cmd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grammar:", err)
		os.Exit(1)
	}
}

func run() error {
	version, err := grammar.PinnedVersion("helm.sh/helm/v4")
	if err != nil {
		return err
	}
	// A plugin or setting of this machine must not end up in a committed file.
	if err := os.Setenv("HELM_NO_PLUGINS", "1"); err != nil {
		return err
	}
	root, err := helm.NewRootCmd(os.Stdout, nil, helm.SetupLogging)
	if err != nil {
		return err
	}
	program := grammar.Program{Name: "helm", Version: version}
	return program.WriteWhenRun(os.Stdout, root, root.Execute)
}
