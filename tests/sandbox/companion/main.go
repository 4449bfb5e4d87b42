// Command companion is the small programs that stand beside the sandbox cluster, in one static binary of the standard
// library alone: what its few real containers run, what makes traffic, its certificates, its private mounts.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  companion pause                                 wait to be stopped (the container that holds a pod's namespaces)
  companion say LINE...                           print the lines, then pause
  companion serve ADDRESS [LINE...]               print the lines, then answer GET /bytes/N with N bytes and take posts
  companion fetch URL REQUESTS BYTES              ask REQUESTS times for /bytes/BYTES; prints one line of JSON
  companion certificates DIRECTORY ADDRESS...     write the cluster's keys and certificates
  companion private STATE PROGRAM ARGUMENT...     become PROGRAM, with mounts, /run, /var/lib and /var/log of its own`

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("name a program\n%s", usage))
	}
	arguments := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "pause":
		pause()
	case "say":
		say(arguments)
		pause()
	case "serve":
		err = with(arguments, 1, func() error { return serve(arguments[0], arguments[1:]) })
	case "fetch":
		err = with(arguments, 3, func() error { return fetch(arguments[0], arguments[1], arguments[2]) })
	case "certificates":
		err = with(arguments, 2, func() error { return certificates(arguments[0], arguments[1:]) })
	case "private":
		err = with(arguments, 2, func() error { return private(arguments[0], arguments[1:]) })
	default:
		err = fmt.Errorf("no program %s\n%s", os.Args[1], usage)
	}
	if err != nil {
		fail(err)
	}
}

func say(lines []string) {
	for _, line := range lines {
		fmt.Println(line)
	}
}

// with runs a program that needs at least so many arguments.
func with(arguments []string, least int, run func() error) error {
	if len(arguments) < least {
		return fmt.Errorf("too few arguments\n%s", usage)
	}
	return run()
}

// pause also reaps: with a shared process namespace it is process 1 of its pod.
func pause() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	children := make(chan os.Signal, 16)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		select {
		case <-stop:
			return
		case <-children:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "companion:", err)
	os.Exit(1)
}
