// Command oracle reads NDJSON argument vectors as the pinned helm does and says what it read.
package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"obi-mcp/tools/grammar/oracle"

	"github.com/spf13/cobra"

	helm "helm.sh/helm/v4/pkg/cmd"
)

func main() {
	fresh := flag.Bool("fresh", false, "build the command tree again for every line")
	flag.Parse()
	if err := run(*fresh); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(fresh bool) error {
	if err := os.Setenv("HELM_NO_PLUGINS", "1"); err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // values warn about old ways to write them
	return oracle.Program{New: tree, Before: before}.Serve(os.Stdin, os.Stdout, fresh)
}

func tree(args []string) (*cobra.Command, error) {
	return helm.NewRootCmd(io.Discard, args, func(bool) {})
}

// before is helm's first reading of the vector, made while it builds its tree: the root's flags wherever they stand,
// unknown ones skipped, errors ignored. What it sets is set.
func before(_, parsed *cobra.Command, args []string, out map[string]any) error {
	flags := parsed.PersistentFlags()
	flags.ParseErrorsAllowlist.UnknownFlags = true
	if err := flags.Parse(args); err != nil {
		out["stopped"] = err.Error()
	}
	for _, name := range []string{"color", "colour"} {
		switch mode := flags.Lookup(name).Value.String(); mode {
		case "never", "auto", "always":
		default:
			return fmt.Errorf("invalid color mode %q", mode)
		}
	}
	return nil
}
