package oracle

import (
	"reflect"
	"unsafe"

	"github.com/spf13/pflag"
)

// A recorder stands in a flag for its real value, to which it hands everything, and notes what was set.
type recorder struct {
	pflag.Value
	flag    *pflag.Flag
	trees   *trees
	restore func()
	dirty   bool
}

func (r *recorder) Set(text string) error {
	if !r.dirty {
		r.dirty = true
		r.trees.touched = append(r.trees.touched, r)
	}
	r.trees.given = append(r.trees.given, Given{r.flag.Name, text})
	return r.Value.Set(text)
}

// final is what the program would work with: a list for the values that are lists.
func (r *recorder) final() any {
	if list, ok := r.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return r.Value.String()
}

// Values reach what they set through a few pointers; nothing that matters lies deeper.
const snapshotDepth = 4

// snapshot remembers all that a value can change and gives a function that puts it back.
func snapshot(value pflag.Value) func() {
	var saved []func()
	seen := map[unsafe.Pointer]bool{}
	var walk func(v reflect.Value, depth int)
	walk = func(v reflect.Value, depth int) {
		if depth == 0 {
			return
		}
		switch v.Kind() {
		case reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem(), depth)
			}
		case reflect.Pointer:
			at := v.UnsafePointer()
			if v.IsNil() || seen[at] {
				return
			}
			seen[at] = true
			target := reflect.NewAt(v.Type().Elem(), at).Elem()
			before := reflect.New(target.Type()).Elem()
			before.Set(target)
			saved = append(saved, func() { target.Set(before) })
			walk(target, depth-1)
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), depth)
			}
		}
	}
	walk(reflect.ValueOf(value), snapshotDepth)
	return func() {
		for _, put := range saved {
			put()
		}
	}
}

// forget takes from a flag set what Parse left in it; pflag itself has no way to do so.
func forget(set *pflag.FlagSet) {
	v := reflect.ValueOf(set).Elem()
	for _, name := range []string{"actual", "orderedActual", "sortedActual", "args", "parsed"} {
		field := v.FieldByName(name)
		reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().SetZero()
	}
	field := v.FieldByName("argsLenAtDash")
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().SetInt(-1)
}
