#!/bin/bash
# pynmea2 1.19.0 (PyPI), a reader of NMEA 0183: a GGA sentence without a fix, whose fields of latitude and longitude are
# empty, has the latitude 0.0 and the longitude 0.0, while its altitude, empty as well, is None.
# Guessed before: None for all three, or an error.
# Seen: 0.0, 0.0, None; only `gps_qual` (0) and `is_valid` tell. pynmeagps 1.1.8 gives empty strings for the same sentence.
# So a mapper that reports latitude and longitude without a look at them puts every vehicle that starts in the Gulf of Guinea.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet pynmea2==1.19.0 pynmeagps==1.1.8
cat > probe.py <<'PYTHON'
from functools import reduce

import pynmea2
from pynmeagps import NMEAReader


def with_checksum(body):
    return f"${body}*{reduce(lambda sum, byte: sum ^ byte, body.encode(), 0):02X}"


nothing = with_checksum("GPGGA,120000.00,,,,,0,00,99.99,,,,,,")
found = with_checksum("GPGGA,120000.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,")
for sentence in (nothing, found):
    one = pynmea2.parse(sentence)
    print("pynmea2", one.latitude, round(one.longitude, 6), one.altitude, one.gps_qual, one.is_valid)
    other = NMEAReader.parse(sentence)
    print("pynmeagps", repr(other.lat), repr(other.lon), repr(other.alt), other.quality)
PYTHON
v/bin/python probe.py > seen
cat seen
diff seen - <<'WANTED'
pynmea2 0.0 0.0 None 0 False
pynmeagps '' '' '' 0
pynmea2 48.1173 11.516667 545.4 1 True
pynmeagps 48.1173 11.5166666667 545.4 1
WANTED
