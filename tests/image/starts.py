"""Run inside the image by its own Python: confines itself as the server does, then tries to start every file there is.

Prints as JSON which of them the kernel let start; ``argv`` names further files to try.
"""

import json
import os
import subprocess
import sys

from obi_mcp.config import Settings
from obi_mcp.process.confinement import confine_server
from obi_mcp.process.programs import find_programs

found = []
for place, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(place, name) not in ("/proc", "/sys", "/dev")]
    found += [os.path.join(place, name) for name in files if os.access(os.path.join(place, name), os.X_OK)]
copy = "/tmp/copy"
with open("/usr/local/bin/jq", "rb") as source, open(copy, "wb") as target:
    target.write(source.read())
os.chmod(copy, 0o755)

settings = Settings()
confine_server(settings, find_programs(settings))
started = []
for path in [*found, copy, *sys.argv[1:]]:
    try:
        subprocess.run([path, "--version"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    except OSError:
        continue
    started.append(path)
print(json.dumps({"tried": len(found), "started": sorted(map(os.path.realpath, started))}))
