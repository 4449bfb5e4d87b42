"""Approved to bytes: programs, sandboxing of children, runner, warm channel."""
