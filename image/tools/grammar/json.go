package grammar

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// An object is a JSON object whose members keep their order.
type object []member

type member struct {
	key   string
	value any
}

// A line is an object that is written on one line, so that a diff shows one flag per line.
type line struct{ object }

func (o *object) addTrue(key string, value bool) {
	if value {
		*o = append(*o, member{key, true})
	}
}

func (o *object) addTable(key string, table object) {
	if len(table) > 0 {
		*o = append(*o, member{key, table})
	}
}

func (o object) only(key string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.key != key })
}

func sortedByName(commands []*cobra.Command) []*cobra.Command {
	return slices.SortedFunc(slices.Values(commands), func(a, b *cobra.Command) int {
		return strings.Compare(a.Name(), b.Name())
	})
}

func writeValue(w io.Writer, value any) error {
	var out bytes.Buffer
	if err := encode(&out, value, 0); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

func encode(out *bytes.Buffer, value any, depth int) error {
	switch v := value.(type) {
	case line:
		return encodeObject(out, v.object, "", "", " ", depth)
	case object:
		if len(v) == 0 {
			out.WriteString("{}")
			return nil
		}
		indent := "\n" + strings.Repeat("  ", depth)
		return encodeObject(out, v, indent+"  ", indent, indent+"  ", depth+1)
	default:
		var scalar bytes.Buffer
		encoder := json.NewEncoder(&scalar)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v); err != nil {
			return err
		}
		out.Write(bytes.TrimSuffix(scalar.Bytes(), []byte("\n")))
		return nil
	}
}

func encodeObject(out *bytes.Buffer, o object, before, after, between string, depth int) error {
	out.WriteString("{" + before)
	for i, m := range o {
		if i > 0 {
			out.WriteString("," + between)
		}
		if err := encode(out, m.key, depth); err != nil {
			return err
		}
		out.WriteString(": ")
		if err := encode(out, m.value, depth); err != nil {
			return err
		}
	}
	out.WriteString(after + "}")
	return nil
}
