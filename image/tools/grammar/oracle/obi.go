package oracle

import (
	"bufio"
	"encoding/json"
	"flag"
	"io"
)

// ServeObi reads `config validate|migrate` with Go's own flag package, as obi does. It has no tree: `config` alone has
// no flags, and any other vector is the root's, whose only flag is -config.
func ServeObi(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	writer := bufio.NewWriter(out)
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			if err := writer.Flush(); err != nil {
				return err
			}
			continue
		}
		var args []string
		if err := json.Unmarshal(lines.Bytes(), &args); err != nil {
			return err
		}
		if err := encoder.Encode(readObi(args)); err != nil {
			return err
		}
	}
	if err := writer.Flush(); err != nil {
		return err
	}
	return lines.Err()
}

type obiValue struct {
	name string
	out  *Reading
	bool bool
}

func (v obiValue) String() string   { return "" }
func (v obiValue) IsBoolFlag() bool { return v.bool }

func (v obiValue) Set(text string) error {
	if v.bool {
		var checked bool
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		set.BoolVar(&checked, "x", false, "")
		if err := set.Set("x", text); err != nil {
			return err
		}
		text = map[bool]string{true: "true", false: "false"}[checked]
	}
	v.out.Flags = append(v.out.Flags, Given{v.name, text})
	v.out.Values[v.name] = text
	return nil
}

func readObi(args []string) Reading {
	out := Reading{Path: []string{}, Flags: []Given{}, Values: map[string]any{}, Operands: []string{}, Dash: -1}
	set := flag.NewFlagSet("obi", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	declare := func(name string, isBool bool) { set.Var(obiValue{name, &out, isBool}, name, "") }
	path := 2
	switch {
	case len(args) > 1 && args[0] == "config" && args[1] == "validate":
		declare("mode", false)
	case len(args) > 1 && args[0] == "config" && args[1] == "migrate":
		declare("mode", false)
		declare("allow-partial", true)
	case len(args) > 0 && args[0] == "config":
		path = 1
	default:
		path = 0
		declare("config", false)
	}
	out.Path = args[:path]
	if err := set.Parse(args[path:]); err != nil {
		out.Error = err.Error()
		return out
	}
	out.Operands = append(out.Operands, set.Args()...)
	return out
}
