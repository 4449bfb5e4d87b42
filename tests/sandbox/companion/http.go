package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const mostBytes = 16 << 20

// serve answers on one address until it is stopped. Nothing but the lines is logged.
func serve(address string, lines []string) error {
	say(lines)
	routes := http.NewServeMux()
	routes.HandleFunc("GET /bytes/{count}", func(answer http.ResponseWriter, request *http.Request) {
		count, err := strconv.Atoi(request.PathValue("count"))
		if err != nil || count < 0 || count > mostBytes {
			http.Error(answer, "a count from 0 to 16777216", http.StatusBadRequest)
			return
		}
		answer.Header().Set("Content-Type", "application/octet-stream")
		answer.Header().Set("Content-Length", strconv.Itoa(count))
		answer.Write(bytes.Repeat([]byte("x"), count))
	})
	routes.HandleFunc("POST /", func(answer http.ResponseWriter, request *http.Request) {
		taken, _ := io.Copy(io.Discard, io.LimitReader(request.Body, mostBytes))
		fmt.Fprintln(answer, taken)
	})
	routes.HandleFunc("GET /{$}", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(answer, "companion") })
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return (&http.Server{Handler: routes, ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

// fetched is what fetch did, in bytes of HTTP bodies. The caller reads the link's own counters for what went over it.
type fetched struct {
	Requests int   `json:"requests"`
	Body     int64 `json:"body_bytes"`
}

// fetch makes its requests one after another on one connection, and fails unless each is answered in full.
func fetch(address, requests, size string) error {
	count, err := strconv.Atoi(requests)
	if err != nil {
		return fmt.Errorf("requests: %w", err)
	}
	want, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return fmt.Errorf("bytes: %w", err)
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: nil}}
	done := fetched{}
	for done.Requests < count {
		got, err := get(client, fmt.Sprintf("%s/bytes/%d", address, want))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("asked for %d bytes, got %d", want, got)
		}
		done.Requests++
		done.Body += got
	}
	client.CloseIdleConnections()
	return json.NewEncoder(os.Stdout).Encode(done)
}

func get(client *http.Client, address string) (int64, error) {
	answer, err := client.Get(address)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", address, answer.Status)
	}
	return io.Copy(io.Discard, answer.Body)
}
