package main

import (
	"bufio"
	"encoding/json"
	"io"

	"k8s.io/apimachinery/pkg/labels"
)

type selectorQuestion struct {
	Selector string              `json:"selector"`
	Labels   []map[string]string `json:"labels"`
}

type selectorAnswer struct {
	Error   string `json:"error,omitempty"`
	Matches []bool `json:"matches"`
}

// serveSelectors answers which of the label sets a selector matches, by the API server's own code.
func serveSelectors(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	writer := bufio.NewWriter(out)
	encoder := json.NewEncoder(writer)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			if err := writer.Flush(); err != nil {
				return err
			}
			continue
		}
		var question selectorQuestion
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			return err
		}
		answer := selectorAnswer{Matches: []bool{}}
		selector, err := labels.Parse(question.Selector)
		if err != nil {
			answer.Error = err.Error()
		} else {
			for _, set := range question.Labels {
				answer.Matches = append(answer.Matches, selector.Matches(labels.Set(set)))
			}
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
	if err := writer.Flush(); err != nil {
		return err
	}
	return lines.Err()
}
