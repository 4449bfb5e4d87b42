"""Run inside the image by its own Python: imports every module of every package there is.

Prints as JSON which modules want a part of the standard library that is not in the image, and how many were imported.
"""

import importlib
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
site = next(path for path in sys.path if path.startswith("/usr/local/"))
modules = set()
for place, folders, files in os.walk(site):
    folders[:] = [name for name in folders if name != "__pycache__" and not name.endswith(".dist-info")]
    for name in files:
        stem, extension = os.path.splitext(os.path.relpath(os.path.join(place, name), site))
        if extension in (".py", ".pyc") and not stem.endswith("__main__"):
            modules.add(stem.replace("/", ".").removesuffix(".__init__"))

missing: dict[str, str] = {}
imported = 0
for module in sorted(modules):
    try:
        importlib.import_module(module)
        imported += 1
    except ModuleNotFoundError as error:
        if error.name in sys.stdlib_module_names:
            missing[module] = str(error.name)
    except BaseException:  # what else stops an import is the same outside
        continue
print(json.dumps({"missing": missing, "imported": imported}), file=sys.__stdout__)
