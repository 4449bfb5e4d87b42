// Command grammar prints the grammar of the pinned kubectl as JSON.
package main

import (
	"fmt"
	"os"
	"strings"

	"obi-mcp/tools/grammar"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grammar:", err)
		os.Exit(1)
	}
}

func run() error {
	version, err := grammar.PinnedVersion("k8s.io/kubectl")
	if err != nil {
		return err
	}
	// No plugin handler: a plugin on this machine must not end up in a committed file.
	root := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
	})
	// The staging modules count 0.36.3 where Kubernetes counts 1.36.3.
	program := grammar.Program{Name: "kubectl", Version: "1" + strings.TrimPrefix(version, "0")}
	// cli.run adds the logging flags and the normalisation of `_`, so the tree is walked from inside it.
	return program.WriteWhenRun(os.Stdout, root, func() error { return cli.RunNoErrOutput(root) })
}
