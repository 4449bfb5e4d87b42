"""OBI's Kubernetes objects as typed Python: what is asked for (``install``, ``sidecar``) becomes a set of objects
(``objects``), and the set becomes text (``render``).

Nothing is imported here: ``kinds`` makes a hundred classes, and a server that only lists its tools needs none.
"""
