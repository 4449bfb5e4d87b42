"""Weakens the policy on purpose, in a copy, and demands that a test notices."""
