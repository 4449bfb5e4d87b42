// Package oracle reads argument vectors as a cobra program does (Command.Find, then ParseFlags) and
// says what it read, one JSON line for each. It is what the server's own parser is held against.
package oracle

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Given is one flag as it was set: its name and the text that its value was given.
type Given [2]string

// A Reading is what the program makes of one argument vector.
type Reading struct {
	Path     []string       `json:"path"`
	Flags    []Given        `json:"flags"`
	Values   map[string]any `json:"values"`
	Operands []string       `json:"operands"`
	// Dash is the number of operands before --, -1 without one.
	Dash  int    `json:"dash"`
	Error string `json:"error,omitempty"`
	// Before is what the program itself found in the vector before cobra saw it.
	Before map[string]any `json:"before,omitempty"`
}

// A Program is one program's tree. New builds it as the program does, without help flags.
type Program struct {
	New func(args []string) (*cobra.Command, error)
	// Before does what the program does with the vector outside cobra. It sees the tree that Find works on, and the
	// one whose flags are set; what it sets there stays set, as it does in the program.
	Before func(found, parsed *cobra.Command, args []string, out map[string]any) error
}

// Serve answers every line of in (a JSON list of words, without the program) with one line.
// With fresh, both trees are built again for every line: slow, and what the fast way is held against.
func (p Program) Serve(in io.Reader, out io.Writer, fresh bool) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	writer := bufio.NewWriterSize(out, 1<<20)
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	var t *trees
	for lines.Scan() {
		var args []string
		if len(lines.Bytes()) == 0 {
			// An empty line asks for all that was answered so far.
			if err := writer.Flush(); err != nil {
				return err
			}
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &args); err != nil {
			return fmt.Errorf("not a list of words: %w", err)
		}
		if t == nil || fresh {
			made, err := p.build()
			if err != nil {
				return err
			}
			t = made
		}
		if err := encoder.Encode(t.read(p, args)); err != nil {
			return err
		}
	}
	if err := writer.Flush(); err != nil {
		return err
	}
	return lines.Err()
}

// Two trees, because ParseFlags is preceded by adding the help flag to the command that was found, and Find must not
// see the help flags of earlier lines.
type trees struct {
	find, parse *cobra.Command
	recorders   []*recorder
	touched     []*recorder
	given       []Given
	used        []*pflag.FlagSet
}

func (p Program) build() (*trees, error) {
	t := &trees{}
	for _, tree := range []**cobra.Command{&t.find, &t.parse} {
		root, err := p.New(nil)
		if err != nil {
			return nil, err
		}
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.InitDefaultHelpCmd()
		root.InitDefaultCompletionCmd()
		*tree = root
	}
	t.record(t.parse, map[*pflag.Flag]bool{})
	return t, nil
}

// record puts a recorder around the value of every flag of c and of what is below it.
func (t *trees) record(c *cobra.Command, seen map[*pflag.Flag]bool) {
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	c.LocalFlags() // merges the persistent flags
	for _, set := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
		set.SetOutput(io.Discard) // cobra would keep every warning about a deprecated flag
		set.VisitAll(func(f *pflag.Flag) {
			if seen[f] {
				return
			}
			seen[f] = true
			one := &recorder{Value: f.Value, flag: f, trees: t, restore: snapshot(f.Value)}
			t.recorders = append(t.recorders, one)
			f.Value = one
		})
	}
	for _, child := range c.Commands() {
		t.record(child, seen)
	}
}

func (t *trees) read(p Program, args []string) Reading {
	defer t.reset()
	out := Reading{Path: []string{}, Flags: []Given{}, Values: map[string]any{}, Operands: []string{}, Dash: -1}
	if p.Before != nil {
		out.Before = map[string]any{}
		t.used = append(t.used, t.parse.PersistentFlags())
		if err := p.Before(t.find, t.parse, args, out.Before); err != nil {
			out.Error = err.Error()
			return out
		}
		out.Before["flags"] = append([]Given{}, t.given...)
		t.given = t.given[:0]
	}
	found, rest, err := t.find.Find(args)
	if found != nil {
		out.Path = append(out.Path, strings.Fields(found.CommandPath())[1:]...)
	}
	if err != nil {
		out.Error = err.Error()
		return out
	}
	command := t.same(out.Path)
	t.used = append(t.used, command.Flags())
	err = command.ParseFlags(rest)
	out.Flags = append(out.Flags, t.given...)
	for _, one := range t.touched {
		out.Values[one.flag.Name] = one.final()
	}
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Operands = append(out.Operands, command.Flags().Args()...)
	if command.DisableFlagParsing {
		out.Operands = rest
	}
	out.Dash = command.ArgsLenAtDash()
	return out
}

// same gives the command of that path in the tree whose flags are set.
func (t *trees) same(path []string) *cobra.Command {
	c := t.parse
	for _, name := range path {
		for _, child := range c.Commands() {
			if child.Name() == name {
				c = child
				break
			}
		}
	}
	return c
}

func (t *trees) reset() {
	for _, one := range t.touched {
		one.restore()
		one.flag.Changed = false
		one.dirty = false
	}
	for _, set := range t.used {
		forget(set)
	}
	t.touched, t.given, t.used = t.touched[:0], t.given[:0], t.used[:0]
}
