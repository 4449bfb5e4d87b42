// Package grammar writes the command tree of a cobra program as JSON: every command with its
// aliases and every flag with its shorthand, type and NoOptDefVal. The format is described by
// policy/schema/grammar.schema.json.
package grammar

import (
	"fmt"
	"io"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Program is what a grammar says of its program before the tree.
type Program struct{ Name, Version string }

// PinnedVersion gives the version, without its v, of the module that this binary was linked with.
func PinnedVersion(module string) (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", fmt.Errorf("this binary carries no build information")
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return strings.TrimPrefix(dep.Version, "v"), nil
		}
	}
	return "", fmt.Errorf("module %s is not linked into this binary", module)
}

// WriteWhenRun makes the walk the action of root and calls execute, which must execute root
// without arguments: what cobra adds only on execution (help, completion) is in the tree then.
func (p Program) WriteWhenRun(w io.Writer, root *cobra.Command, execute func() error) error {
	walked := false
	root.Run = nil
	root.RunE = func(*cobra.Command, []string) error {
		walked = true
		return writeValue(w, p.tree(root))
	}
	root.SetArgs([]string{})
	if err := execute(); err != nil {
		return err
	}
	if !walked {
		return fmt.Errorf("%s ran without coming to its root command", p.Name)
	}
	return nil
}

func (p Program) tree(root *cobra.Command) object {
	top := object{
		{"program", p.Name},
		{"version", p.Version},
		{"style", "cobra"},
		{"flags", flagTable(root.PersistentFlags())},
	}
	// INVARIANT: root is walked like any other command first, because that adds its help flag.
	local := localFlags(root)
	top.addTable("local", local)
	top = append(top, command(root).only("commands")...)
	return top
}

func command(c *cobra.Command) object {
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	var out object
	if len(c.Aliases) > 0 {
		out = append(out, member{"aliases", c.Aliases})
	}
	out.addTrue("hidden", c.Hidden)
	out.addTrue("deprecated", c.Deprecated != "")
	out = append(out, member{"runnable", c.Runnable()})
	out.addTrue("disable_flag_parsing", c.DisableFlagParsing)
	out.addTrue("traverse_children", c.TraverseChildren)
	out.addTrue("unknown_flags", c.FParseErrWhitelist.UnknownFlags)
	if !interspersed(c.Flags()) {
		out = append(out, member{"interspersed", false})
	}
	out = append(out, member{"flags", localFlags(c)})
	if c.HasParent() {
		out.addTable("persistent", flagTable(c.PersistentFlags()))
	}
	var children object
	for _, child := range sortedByName(c.Commands()) {
		children = append(children, member{child.Name(), command(child)})
	}
	out.addTable("commands", children)
	return out
}

// localFlags gives the flags that only c itself takes: neither its parents' nor its children's.
func localFlags(c *cobra.Command) object {
	c.InitDefaultHelpFlag()
	return flagTable(c.LocalNonPersistentFlags())
}

func flagTable(flags *pflag.FlagSet) object {
	var table object
	flags.SortFlags = true
	flags.VisitAll(func(f *pflag.Flag) { table = append(table, member{f.Name, line{flagEntry(f)}}) })
	return table
}

func flagEntry(f *pflag.Flag) object {
	var out object
	if f.Shorthand != "" {
		out = append(out, member{"short", f.Shorthand})
	}
	out = append(out, member{"type", f.Value.Type()})
	if f.NoOptDefVal != "" {
		out = append(out, member{"optional", f.NoOptDefVal})
	}
	out.addTrue("repeat", appends(f.Value))
	out.addTrue("hidden", f.Hidden)
	out.addTrue("deprecated", f.Deprecated != "" || f.ShorthandDeprecated != "")
	return out
}

// appends tells whether a value keeps what an earlier occurrence of its flag gave.
func appends(value pflag.Value) bool {
	if _, ok := value.(pflag.SliceValue); ok {
		return true
	}
	kind := value.Type()
	return kind == "count" || strings.HasPrefix(kind, "stringTo") || kind == "mapStringString"
}

// interspersed reads the field for which pflag has a setter but no getter.
func interspersed(flags *pflag.FlagSet) bool {
	return reflect.ValueOf(flags).Elem().FieldByName("interspersed").Bool()
}
