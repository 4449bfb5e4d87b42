"""Runs argument vectors one after the other (the process that strace follows). Standard library only, and alone."""

import json
import subprocess
import sys

JSON = b'{"a": 1, "items": [{"metadata": {"name": "x"}}, {"b": "c"}], "env": "e"}\n[1, 2, "a"]\n'
TEXT = b"apps/v1\nv1\na,b/c 1\nb a 20\nERROR x\nError x\n\nerror -x \xc3\xa9\nz\tq\tr\nv1\nv1\n"
MOST_S = 10


def main() -> None:
    """Read vectors as NDJSON until the input ends; answer process id, exit code and output of each."""
    for line in sys.stdin:
        argv = json.loads(line)
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = child.communicate(JSON if argv[0].endswith("/jq") else TEXT, MOST_S)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            output = child.communicate()[0] + b"(did not end)"
        text = output[:20000].decode("utf-8", "replace")
        print(json.dumps({"pid": child.pid, "exit": child.returncode, "output": text}))


if __name__ == "__main__":
    main()
