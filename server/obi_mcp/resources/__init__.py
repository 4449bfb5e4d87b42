"""Resources: what a client may read and subscribe to besides calling tools; each by the road that the tools take."""
