package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// hidden are the trees in which a container runtime and a kubelet leave sockets, caches and links under fixed names.
var hidden = []string{"/run", "/var/lib", "/var/log"}

// private becomes a program in a mount namespace of its own: the hidden trees are empty there, except for the state
// directory, and every mount that the program or its containers make is gone with the last of them.
func private(state string, argv []string) error {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	// Namespaces belong to threads; this one goes on to become the program.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	kept, err := os.Open(state)
	if err != nil {
		return err
	}
	for _, path := range hidden {
		if err := syscall.Mount("tmpfs", path, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	// Through the descriptor: the path itself may lie in a tree that is hidden by now.
	source := fmt.Sprintf("/proc/self/fd/%d", kept.Fd())
	if err := syscall.Mount(source, state, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("keep %s: %w", state, err)
	}
	kept.Close()
	return syscall.Exec(program, argv, os.Environ())
}
