#!/bin/bash
# cantools 45.1.0 (PyPI), a reader of CAN databases (DBC): a signal with a table of names decodes to an object that equals its
# name, but cannot be written as JSON, and cannot be a key or a member of a set.
# Guessed before: a kind of str, which both can be done with.
# Seen: json.dumps and hash raise TypeError; str() gives the name; a value without a name in the table is a plain int, so that one
# signal has two types, and a program that was tried with values outside of the table fails at the first one inside.
# decode_choices=False gives ints always.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet cantools==45.1.0
cat > probe.py <<'PYTHON'
import json

import cantools

GEARBOX = """VERSION ""
BU_: Gearbox
BO_ 256 State: 1 Gearbox
 SG_ Gear : 0|3@1+ (1,0) [0|7] "" Vector__XXX
VAL_ 256 Gear 0 "park" 1 "reverse" ;
"""


def what(action):
    try:
        return action()
    except TypeError as error:
        return f"TypeError: {error}"


database = cantools.database.load_string(GEARBOX, "dbc")
for byte in (1, 5):
    gear = database.decode_message(256, bytes([byte]))["Gear"]
    print(type(gear).__name__, str(gear), gear == "reverse")
    print(what(lambda: json.dumps(gear)))
    print(what(lambda: gear in {"reverse": 1}))
print(database.decode_message(256, bytes([1]), decode_choices=False))
PYTHON
v/bin/python probe.py > seen
cat seen
diff seen - <<'WANTED'
NamedSignalValue reverse True
TypeError: Object of type NamedSignalValue is not JSON serializable
TypeError: unhashable type: 'NamedSignalValue'
int 5 False
5
False
{'Gear': 1}
WANTED
