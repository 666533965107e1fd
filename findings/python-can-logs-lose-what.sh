#!/bin/bash
# python-can 4.6.1 (PyPI), which writes and reads recordings of CAN buses: what comes back of the same three frames depends on
# the ending of the file's name.
# Guessed before: text formats lose the channel's name, otherwise a frame comes back as it went in.
# Seen: .csv and .db give a CAN FD frame back as a classical frame of 12 bytes, which no bus carries, and every frame as received;
# .trc leaves CAN FD and remote frames out with a line on standard error; .log forgets how much a remote frame asked for; .asc
# gives seconds since the first frame, no date. Only .blf keeps all of it, with a number for the channel "can0".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet python-can==4.6.1
cat > probe.py <<'PYTHON'
import can

START = 1790000000.0
FRAMES = [
    can.Message(timestamp=START, arbitration_id=0x123, is_extended_id=False, data=[1], channel="can0", is_rx=False),
    can.Message(timestamp=START + 1, arbitration_id=0x77, is_extended_id=False, is_remote_frame=True, dlc=4, channel="can0"),
    can.Message(timestamp=START + 2, arbitration_id=0x321, is_extended_id=False, is_fd=True, data=bytes(12), channel="can0"),
]
for ending in ("asc", "blf", "csv", "db", "log", "trc"):
    with can.Logger(f"recording.{ending}") as log:
        for frame in FRAMES:
            log(frame)
    for frame in can.LogReader(f"recording.{ending}"):
        kind = "remote" if frame.is_remote_frame else "fd" if frame.is_fd else "classical"
        print(ending, round(frame.timestamp), kind, frame.dlc, "received" if frame.is_rx else "sent", frame.channel)
PYTHON
v/bin/python probe.py > seen 2> errors
cat seen
grep -c 'not implemented' errors >> seen
diff seen - <<'WANTED'
asc 0 classical 1 sent 0
asc 1 remote 4 received 0
asc 2 fd 12 received 0
blf 1790000000 classical 1 sent 0
blf 1790000001 remote 4 received 0
blf 1790000002 fd 12 received 0
csv 1790000000 classical 1 received None
csv 1790000001 remote 4 received None
csv 1790000002 classical 12 received None
db 1790000000 classical 1 received None
db 1790000001 remote 4 received None
db 1790000002 classical 12 received None
log 1790000000 classical 1 sent can0
log 1790000001 remote 0 received can0
log 1790000002 fd 12 received can0
trc 1790000000 classical 1 sent 1
2
WANTED
