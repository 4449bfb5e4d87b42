// Command oracle reads NDJSON argument vectors as the pinned kubectl does and says what it read.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"obi-mcp/tools/grammar/oracle"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
)

func main() {
	fresh := flag.Bool("fresh", false, "build the command tree again for every line")
	what := flag.String("read", "kubectl", "kubectl, obi (Go's own flag package) or selector")
	flag.Parse()
	if err := run(*what, *fresh); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(what string, fresh bool) error {
	switch what {
	case "kubectl":
		return oracle.Program{New: tree, Before: before}.Serve(os.Stdin, os.Stdout, fresh)
	case "obi":
		return oracle.ServeObi(os.Stdin, os.Stdout)
	case "selector":
		return serveSelectors(os.Stdin, os.Stdout)
	}
	return fmt.Errorf("-read=%s is not known", what)
}

// tree is kubectl's, with what component-base's cli adds before it executes.
func tree([]string) (*cobra.Command, error) {
	streams := genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}
	root := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{IOStreams: streams})
	root.SetGlobalNormalizationFunc(cliflag.WordSepNormalizeFunc)
	logs.AddFlags(root.PersistentFlags())
	return root, nil
}

// before is what kubectl's main, its plugin search and its kuberc make of the vector before cobra parses it.
func before(found, _ *cobra.Command, args []string, out map[string]any) error {
	whole := append([]string{"kubectl"}, args...)
	// The released kubectl sets its log level by this, before flags are parsed.
	out["verbosity"] = cmd.GetLogVerbosity(whole)
	out["kuberc"] = explicitKuberc(whole)
	out["plugin"] = plugin(found, args)
	return nil
}

// plugin is the longest name that kubectl would look for on its path, empty where it would not look.
func plugin(root *cobra.Command, args []string) string {
	if len(args) == 0 {
		return ""
	}
	command, rest, err := root.Find(args)
	least := 0
	switch {
	case err != nil:
		first := ""
		for _, arg := range args {
			if !strings.HasPrefix(arg, "-") {
				first = arg
				break
			}
		}
		if first != "help" && first != cobra.ShellCompRequestCmd && first != cobra.ShellCompNoDescRequestCmd {
			least = 1
		}
	case cmd.IsSubcommandPluginAllowed(command.Name()) && len(rest) > 0 && !strings.HasPrefix(rest[0], "-"):
		least = len(args) - len(rest) + 1
		for _, child := range command.Commands() {
			if child.Name() == rest[0] {
				least = 0
			}
		}
	}
	if least == 0 {
		return ""
	}
	var pieces []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		pieces = append(pieces, strings.ReplaceAll(arg, "-", "_"))
	}
	return strings.Join(pieces, "-")
}

// explicitKuberc is kuberc's own search for its flag, which is not exported.
func explicitKuberc(args []string) string {
	for i, arg := range args {
		switch {
		case arg == "--":
			return ""
		case arg == "--kuberc":
			return strings.Join(args[i+1:min(i+2, len(args))], "")
		case strings.Contains(arg, "--kuberc="):
			return strings.Split(arg, "=")[1]
		}
	}
	return ""
}
